//! From what was given to what the agent runs with. Every value that cannot be used is named, all at once.
//!
//! Whose defaults hold is decided first:
//! 1. with a configuration file, or with `--proxy-mode`: kube-proxy's, those of its mode;
//! 2. else daymark's own: what is not asked for by a flag is left alone.

mod check;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use daymark_model::input::MasqueradeAll;
use daymark_model::laxity;
use daymark_model::rules::{Invalid, Mode, NAMES, Rules, UnservedLoopback};
use daymark_model::{Cidr, Options};
use daymark_node::health::Busy;
use daymark_node::sysctls;

use super::Given;
use super::configuration::Configuration;
use super::defaults::{HEALTH_PORT, METRICS_PORT};
use super::period::Period;
use super::report::Report;
use check::Check;

/// Whose defaults hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defaults {
    /// daymark's.
    Own,
    /// kube-proxy's.
    KubeProxy,
}

/// What the agent runs with.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What changes the meaning of Services.
    pub(crate) options: Options,
    /// The Node's primary address, if it is not the Node object's first.
    pub(crate) primary: Option<IpAddr>,
    /// Where health is served; nowhere: not at all.
    pub(crate) healthz: Option<SocketAddr>,
    /// Where metrics are.
    pub(crate) metrics: Option<SocketAddr>,
    /// What follows when an address of these two is taken.
    pub(crate) busy: Busy,
    /// How long a change may wait before the node is not healthy.
    pub(crate) patience: Duration,
    /// How long changes may wait for each other where they come without end; `None`: as long as the feed finds right.
    pub(crate) longest_pause: Option<Duration>,
    /// Kernel settings.
    pub(crate) sysctls: sysctls::Wanted,
    /// `oom_score_adj` of the process.
    pub(crate) oom_score: Option<i32>,
    /// Where virtual servers of IPVS are others'.
    pub(crate) spared: Vec<Cidr>,
    /// Whose defaults hold.
    pub(crate) defaults: Defaults,
    /// What the operator should hear of, as Events on the Node.
    pub(crate) notices: Vec<Notice>,
}

/// Something an Event on the Node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// The Event's reason.
    pub(crate) reason: &'static str,
    /// Its message.
    pub(crate) message: String,
}

/// Decides; what cannot be used stands in the report, and then nothing of the result is to be used.
pub(crate) fn settings(given: &Given, node_name: &str, report: &mut Report) -> Settings {
    let full = given.configuration.clone().completed();
    let mut check = Check { given, report };
    let mode = check.mode();
    let family = check.bind_address(&full);
    check.numbers(&full);
    check.periods(&full, mode);
    let settings = Settings {
        options: Options {
            node_name: node_name.into(),
            detector: check.detector(&full),
            node_port_addresses: check.node_port_addresses(&full, mode),
            masquerade_all: masquerade_all(given, mode),
            rules: rules(given, mode),
        },
        primary: family.filter(|ip| !ip.is_unspecified()),
        healthz: check.address(
            "healthzBindAddress",
            &full.healthz_bind_address,
            HEALTH_PORT,
        ),
        metrics: check.address(
            "metricsBindAddress",
            &full.metrics_bind_address,
            METRICS_PORT,
        ),
        busy: check.busy(),
        patience: check.patience(&full, mode),
        longest_pause: longest_pause(&full, mode),
        sysctls: check.sysctls(&full, mode),
        oom_score: check.oom_score(&full),
        spared: check.spared(&full),
        defaults: given.defaults,
        notices: notices(given, mode),
    };
    check.others(&full);
    settings
}

/// What kube-proxy does in the mode. With iptables it lets invalid packets pass where conntrack is liberal.
fn rules(given: &Given, mode: Mode) -> Rules {
    if given.defaults == Defaults::Own {
        return Rules::default();
    }
    let mut rules = Rules::of_mode(mode);
    if given.configuration.conntrack.tcp_be_liberal {
        rules.invalid = Invalid::LetThrough;
    }
    let gate = given.configuration.feature_gates.get(LOOPBACK_GATE);
    if mode == Mode::Nftables && gate == Some(&true) {
        rules.unserved_loopback = UnservedLoopback::Refuse;
    }
    rules
}

/// The gate with which kube-proxy's nftables mode serves node ports on loopback, and refuses what it does not serve there.
pub(super) const LOOPBACK_GATE: &str = "KubeProxyNFTablesLocalhostNodePorts";

/// The flag `--masquerade-all` is one of every mode, the fields are each of their own.
fn masquerade_all(given: &Given, mode: Mode) -> MasqueradeAll {
    let configuration = &given.configuration;
    let asked = match mode {
        Mode::Nftables if given.from_file => configuration.nftables.masquerade_all,
        _ => configuration.iptables.masquerade_all,
    };
    if asked {
        MasqueradeAll::Yes
    } else {
        MasqueradeAll::No
    }
}

fn sync_period(full: &Configuration, mode: Mode) -> (&'static str, Period) {
    match mode {
        Mode::Iptables => ("iptables.syncPeriod", full.iptables.sync_period),
        Mode::Ipvs => ("ipvs.syncPeriod", full.ipvs.sync_period),
        Mode::Nftables => ("nftables.syncPeriod", full.nftables.sync_period),
    }
}

/// Zero is no wish: so mode ipvs has it by default.
fn longest_pause(full: &Configuration, mode: Mode) -> Option<Duration> {
    let period = match mode {
        Mode::Iptables => full.iptables.min_sync_period,
        Mode::Ipvs => full.ipvs.min_sync_period,
        Mode::Nftables => full.nftables.min_sync_period,
    };
    Some(period.duration()).filter(|period| !period.is_zero())
}

impl Settings {
    /// Takes up the choices of `--choice`, and notes what passes here that daymark's own rules would refuse and that is no Service's
    /// own: of the rest there is an Event on each Service. What was chosen by name is known.
    ///
    /// # Errors
    /// A choice or word that there is not.
    pub(crate) fn choose(&mut self, choices: &[String]) -> anyhow::Result<()> {
        for choice in choices {
            let known = choice
                .split_once('=')
                .and_then(|(name, word)| self.options.rules.set(name, word));
            known.with_context(|| {
                let names = NAMES.map(|(name, words)| format!("{name}={{{words}}}"));
                format!(
                    "--choice {choice}: there is no such choice or word; there are {}",
                    names.join(" ")
                )
            })?;
        }
        let is_chosen = |name: &str| {
            let mut names = choices.iter().filter_map(|choice| choice.split_once('='));
            names.any(|(chosen, _)| chosen == name)
        };
        let mut passes = laxity::unowned(&self.options.rules);
        passes.retain(|(name, _)| !is_chosen(name));
        if self.defaults == Defaults::KubeProxy && !passes.is_empty() {
            let passes: Vec<String> = passes
                .iter()
                .map(|(name, word)| format!("{name}={word}"))
                .collect();
            self.notices.push(Notice {
                reason: "LetThrough",
                message: format!(
                    "as kube-proxy has it: {}; without the configuration's mode daymark would refuse or drop what these let through \
                     (docs/semantics.md); start the node with --choice NAME=WORD to decide each",
                    passes.join(", ")
                ),
            });
        }
        Ok(())
    }
}

/// What an operator of kube-proxy may not expect.
fn notices(given: &Given, mode: Mode) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut notice = |reason, message: String| notices.push(Notice { reason, message });
    if given.defaults == Defaults::Own {
        return notices;
    }
    let configuration = &given.configuration;
    if configuration.mode.is_empty() {
        notice(
            "KubeProxyDefaultMode",
            "mode is not set: node ports and the rest are served as in kube-proxy's mode iptables; set mode, since \
             the default changes to nftables with Kubernetes 1.40"
                .to_owned(),
        );
    }
    if mode != Mode::Nftables {
        notice(
            "ServedByNftables",
            format!(
                "mode {mode} is served by nftables with the defaults of {mode}: programs that read its chains or virtual servers find none"
            ),
        );
    }
    let scheduler = configuration.ipvs.scheduler.as_str();
    if mode == Mode::Ipvs && !["", "rr"].contains(&scheduler) {
        notice(
            "SchedulerIgnored",
            format!(
                "ipvs.scheduler {scheduler:?} has no meaning here: a new connection goes to a random endpoint"
            ),
        );
    }
    notices
}
