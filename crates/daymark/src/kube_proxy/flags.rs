//! kube-proxy's flags, made out of the table of fields, and what was given.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::configuration::{Configuration, flag_alone, rows};
use super::field::{Field, Row, Shape, Taken};

/// The flags as they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--config`.
    pub(crate) config: Option<PathBuf>,
    /// `--master`.
    pub(crate) master: Option<String>,
    /// `--init-only`.
    pub(crate) init_only: bool,
    /// `--cleanup`.
    pub(crate) cleanup: bool,
    /// `--write-config-to`.
    pub(crate) write_config_to: Option<PathBuf>,
    /// `--healthz-port` and `--metrics-port`, both deprecated.
    pub(crate) ports: [Option<u16>; 2],
    /// Those that stand for a field of the file.
    pub(crate) fields: Configuration,
    /// The names of those that were given, without dashes.
    pub(crate) given: Vec<&'static str>,
}

const CONFIG: &str = "config";
const MASTER: &str = "master";
const INIT_ONLY: &str = "init-only";
const CLEANUP: &str = "cleanup";
const WRITE: &str = "write-config-to";
const PORTS: [&str; 2] = ["healthz-port", "metrics-port"];

/// The flags that stand for no field.
pub(crate) const ALONE: [Row; 7] = [
    flag_alone(
        CONFIG,
        Shape::Value,
        "A `KubeProxyConfiguration`. It wins over flags, but for `--hostname-override` and those of logging.",
    ),
    flag_alone(
        MASTER,
        Shape::Value,
        "The API server's address, in place of the kubeconfig's.",
    ),
    flag_alone(
        INIT_ONLY,
        Shape::Switch,
        "Does what needs privileges (kernel settings), and ends.",
    ),
    flag_alone(
        CLEANUP,
        Shape::Switch,
        "Removes what kube-proxy left in the kernel, and ends: `daymark cleanup --kube-proxy`.",
    ),
    flag_alone(
        WRITE,
        Shape::Value,
        "Writes the defaults to this file, and ends.",
    ),
    flag_alone(
        PORTS[0],
        Shape::Value,
        "The port of `--healthz-bind-address`; 0: no health port. Deprecated.",
    ),
    flag_alone(
        PORTS[1],
        Shape::Value,
        "The port of `--metrics-bind-address`; 0: no metrics port. Deprecated.",
    ),
];

/// Flags that hold beside a file.
const BESIDE_A_FILE: [&str; 10] = [
    "hostname-override",
    "v",
    "vmodule",
    "logging-format",
    "log-flush-frequency",
    "log-text-split-stream",
    "log-text-info-buffer-size",
    "log-json-split-stream",
    "log-json-info-buffer-size",
    "kubeconfig",
];

impl Flags {
    /// The flags that a file makes useless.
    pub(crate) fn useless(&self) -> Vec<&'static str> {
        let ours: Vec<&str> = ALONE
            .iter()
            .map(|row| row.flag)
            .filter(|flag| !PORTS.contains(flag))
            .collect();
        let given = self.given.iter().copied();
        given
            .filter(|flag| !BESIDE_A_FILE.contains(flag) && !ours.contains(flag))
            .collect()
    }
}

fn all() -> impl Iterator<Item = Row> {
    ALONE
        .into_iter()
        .chain(rows().into_iter().filter(|row| !row.flag.is_empty()))
}

fn argument(row: &Row) -> Arg {
    let help = row.meaning.replace('`', "");
    let arg = Arg::new(row.flag)
        .long(row.flag)
        .help(help)
        .help_heading("As kube-proxy has them");
    let arg = match row.flag {
        "v" => arg.short('v'),
        "hostname-override" => arg.visible_alias("node-name"),
        _ => arg,
    };
    match row.shape {
        Shape::Value => arg
            .value_name("VALUE")
            .action(ArgAction::Append)
            .allow_hyphen_values(true),
        Shape::Switch => arg
            .value_name("BOOL")
            .action(ArgAction::Append)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let command = command.args(all().map(|row| argument(&row)));
        let switches = [INIT_ONLY, CLEANUP];
        switches.into_iter().fold(command, |command, name| {
            command.mut_arg(name, |arg| arg.value_parser(BoolishValueParser::new()))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let last = |name| last(matches, name);
        let switch = |name| {
            matches
                .get_many::<bool>(name)
                .and_then(|mut all| all.next_back())
                .copied()
                .unwrap_or(false)
        };
        let mut flags = Self {
            config: last(CONFIG).map(PathBuf::from),
            master: last(MASTER),
            init_only: switch(INIT_ONLY),
            cleanup: switch(CLEANUP),
            write_config_to: last(WRITE).map(PathBuf::from),
            ..Self::default()
        };
        for (port, name) in flags.ports.iter_mut().zip(PORTS) {
            *port = last(name).map(|text| number(name, &text)).transpose()?;
        }
        for row in all() {
            flags.take(matches, row.flag)?;
        }
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Flags {
    fn take(&mut self, matches: &ArgMatches, name: &'static str) -> Result<(), clap::Error> {
        if !matches.contains_id(name) {
            return Ok(());
        }
        self.given.push(name);
        if ALONE.iter().any(|row| row.flag == name) {
            return Ok(());
        }
        for text in matches.get_many::<String>(name).into_iter().flatten() {
            if let Taken::Refused(wanted) = self.fields.take_flag(name, text) {
                return Err(refused(name, text, wanted));
            }
        }
        Ok(())
    }
}

fn last(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_many::<String>(name)?.next_back().cloned()
}

fn number(name: &str, text: &str) -> Result<u16, clap::Error> {
    text.parse()
        .map_err(|_| refused(name, text, "a port from 0 to 65535"))
}

fn refused(name: &str, text: &str, wanted: &str) -> clap::Error {
    clap::Error::raw(
        ErrorKind::InvalidValue,
        format!("--{name}: {text:?} cannot be used: the flag takes {wanted}\n"),
    )
}
