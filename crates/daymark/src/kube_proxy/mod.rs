//! Started in kube-proxy's place: its configuration file and its flags.
//!
//! - [`configuration`]: the fields, each with its flag and what daymark makes of it;
//! - [`field`], [`tree`], [`period`]: how values are read and written;
//! - [`load`], [`flags`]: where they come from;
//! - [`defaults`], [`settings`]: what they come to.
//!
//! A file is read twice in one: what is not known, or stands there twice, is read over and said; what has a wrong
//! type or value is refused, all of it in one message.

pub(crate) mod configuration;
pub(crate) mod defaults;
pub(crate) mod field;
pub(crate) mod flags;
pub(crate) mod load;
pub(crate) mod period;
pub(crate) mod report;
pub(crate) mod settings;
pub(crate) mod tree;

use std::net::SocketAddr;

use anyhow::bail;
use daymark_model::Mode;
use daymark_model::input::Detector;
use tracing::warn;

use configuration::Configuration;
use field::Field;
use flags::Flags;
use report::{Remark, Report};
use settings::{Defaults, Settings};

use crate::client::Access;

/// What was given, from the file or from flags.
#[derive(Debug)]
pub(crate) struct Given {
    /// The fields.
    pub(crate) configuration: Configuration,
    /// Whether they are from a file.
    pub(crate) from_file: bool,
    /// Whose defaults hold for the rest.
    pub(crate) defaults: Defaults,
}

impl Given {
    /// Reads the file if there is one; else the flags are all there is.
    pub(crate) fn from(flags: &Flags, report: &mut Report) -> anyhow::Result<Self> {
        let Some(path) = &flags.config else {
            let configuration = flags.fields.clone();
            let defaults = if configuration.mode.is_empty() {
                Defaults::Own
            } else {
                Defaults::KubeProxy
            };
            return Ok(Self {
                configuration,
                from_file: false,
                defaults,
            });
        };
        let mut configuration = load::file(path, report)?;
        let over = &flags.fields;
        if !over.hostname_override.is_empty() {
            configuration
                .hostname_override
                .clone_from(&over.hostname_override);
        }
        if over.logging.verbosity.is_some() {
            configuration.logging.verbosity = over.logging.verbosity;
        }
        let kubeconfig = &mut configuration.client_connection.kubeconfig;
        if kubeconfig.is_empty() {
            kubeconfig.clone_from(&over.client_connection.kubeconfig);
        }
        Ok(Self {
            configuration,
            from_file: true,
            defaults: Defaults::KubeProxy,
        })
    }

    /// How the API is reached.
    pub(crate) fn access(&self, flags: &Flags) -> Access {
        let kubeconfig = self.configuration.client_connection.kubeconfig.as_str();
        let kubeconfig = (!kubeconfig.is_empty()).then(|| kubeconfig.into());
        Access::new(
            kubeconfig,
            flags.master.clone().filter(|server| !server.is_empty()),
        )
    }

    /// The text of `/configz`: what was given, with what the rest comes to.
    pub(crate) fn configz(&self, settings: &Settings) -> String {
        let mut full = self.configuration.clone().completed();
        let options = &settings.options;
        let entries = options.node_port_addresses.0.iter();
        full.node_port_addresses = entries.map(ToString::to_string).collect();
        if self.defaults == Defaults::Own {
            full.mode = Mode::Nftables.to_string();
            if options.detector == Detector::NodeCidr {
                full.detect_local_mode = "NodeCIDR".to_owned();
            }
        }
        for (text, address) in [
            (&mut full.healthz_bind_address, settings.healthz),
            (&mut full.metrics_bind_address, settings.metrics),
        ] {
            *text = address.map_or_else(String::new, |address| address.to_string());
        }
        serde_json::json!({"kubeproxy.config.k8s.io": full.json()}).to_string()
    }

    /// The name of this node: what was given, else the host's, as kube-proxy writes it.
    pub(crate) fn node_name(&self, host: &str) -> anyhow::Result<String> {
        let given = self.configuration.hostname_override.as_str();
        let name = if given.is_empty() { host } else { given };
        let name = name.trim().to_lowercase();
        if name.is_empty() {
            bail!(
                "this host has no name, so that its Node is not known: give it with --hostname-override"
            );
        }
        Ok(name)
    }
}

/// What was given, and what it comes to.
#[derive(Debug)]
pub(crate) struct Decided {
    /// What was given.
    pub(crate) given: Given,
    /// What the agent runs with.
    pub(crate) settings: Settings,
    /// What is read over, for the log.
    pub(crate) remarks: Vec<String>,
}

/// Reads all that was given and decides what the agent runs with.
pub(crate) fn decide(flags: &Flags, host: &str) -> anyhow::Result<Decided> {
    let mut report = Report::default();
    let given = Given::from(flags, &mut report)?;
    let name = given.node_name(host)?;
    let mut settings = settings::settings(&given, &name, &mut report);
    if !report.refused.is_empty() {
        bail!("{}", refusal(flags, &report.refused));
    }
    if !given.from_file {
        let [health, metrics] = flags.ports;
        settings.healthz = at_port(settings.healthz, health);
        settings.metrics = at_port(settings.metrics, metrics);
    }
    let remarks = remarks(flags, &given, &report.ignored);
    Ok(Decided {
        given,
        settings,
        remarks,
    })
}

impl Decided {
    /// The level of the log, unless `DAYMARK_LOG` says another.
    pub(crate) fn log_level(&self) -> &'static str {
        match self.given.configuration.logging.verbosity {
            Some(4..) => "debug",
            _ => "info",
        }
    }

    /// Says once what has no effect.
    pub(crate) fn tell(&self) {
        for remark in &self.remarks {
            warn!("{remark}");
        }
    }
}

/// The defaults as a file.
pub(crate) fn default_file() -> String {
    let json = Configuration::default().completed().json();
    serde_saphyr::to_string(&json).expect("texts, numbers and groups have a YAML form")
}

/// The deprecated flags for ports: 0 closes.
fn at_port(address: Option<SocketAddr>, port: Option<u16>) -> Option<SocketAddr> {
    match (address, port) {
        (_, Some(0)) => None,
        (Some(address), Some(port)) => Some(SocketAddr::new(address.ip(), port)),
        (address, None) => address,
        (None, Some(_)) => None,
    }
}

/// All that was refused, one a line.
fn refusal(flags: &Flags, refused: &[Remark]) -> String {
    let source = flags.config.as_ref().map_or_else(
        || "the flags".to_owned(),
        |path| format!("the configuration {}", path.display()),
    );
    let lines: String = refused
        .iter()
        .map(|remark| format!("\n  {remark}"))
        .collect();
    format!("{source} cannot be used:{lines}")
}

/// What has no effect, and why.
fn remarks(flags: &Flags, given: &Given, ignored: &[Remark]) -> Vec<String> {
    let mut remarks: Vec<String> = ignored
        .iter()
        .map(|remark| format!("the configuration: {remark}"))
        .collect();
    let useless = flags.useless();
    if given.from_file && !useless.is_empty() {
        remarks.push(format!(
            "beside --config these flags have no effect: --{}",
            useless.join(", --")
        ));
    }
    let gates: Vec<&str> = given
        .configuration
        .feature_gates
        .keys()
        .map(String::as_str)
        .filter(|gate| *gate != settings::LOOPBACK_GATE)
        .collect();
    if !gates.is_empty() {
        remarks.push(format!(
            "daymark has none of these feature gates; they have no effect: {}",
            gates.join(", ")
        ));
    }
    remarks
}

#[cfg(test)]
mod tests;
