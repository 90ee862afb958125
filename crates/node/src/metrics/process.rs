//! What Prometheus' clients tell of the process they are in: `process_*`, read from `/proc/self` when somebody asks.
//! (prometheus/client_golang `prometheus/process_collector.go`.)

use std::fmt::Write;

use rustix::process::{Resource, getrlimit};

/// The lines for `/metrics`; what cannot be read is left out.
#[must_use]
pub fn lines() -> String {
    let mut out = String::new();
    if let Some(stat) = Stat::read() {
        stat.write(&mut out);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, field, help) in [
        (
            "process_resident_memory_bytes",
            "VmRSS:",
            "Memory that is in use",
        ),
        ("process_virtual_memory_bytes", "VmSize:", "Virtual memory"),
    ] {
        if let Some(bytes) = bytes(&status, field) {
            family(&mut out, (name, "gauge"), help, bytes);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the folder.
        let open = open.count().saturating_sub(1);
        family(&mut out, ("process_open_fds", "gauge"), "Open files", open);
    }
    let limits = [
        (
            "process_max_fds",
            Resource::Nofile,
            "Files that may be open",
        ),
        (
            "process_virtual_memory_max_bytes",
            Resource::As,
            "Virtual memory that may be had",
        ),
    ];
    for (name, resource, help) in limits {
        // No limit is a number too: that of all bits, as in Prometheus' clients.
        let limit = getrlimit(resource).current.unwrap_or(u64::MAX);
        family(&mut out, (name, "gauge"), help, limit);
    }
    out
}

/// When this process began, as the lines of `/metrics/slis`.
#[must_use]
pub fn start_line() -> String {
    let mut out = String::new();
    if let Some(started) = Stat::read().and_then(|stat| stat.started()) {
        write_start(&mut out, started);
    }
    out
}

/// Of `/proc/self/stat` (proc_pid_stat(5)).
struct Stat {
    /// In user mode and in the kernel, clock ticks.
    ticks: u64,
    /// After the machine's start, clock ticks.
    start: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// The second field is the program's name in brackets, and may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            ticks: field(14)? + field(15)?,
            start: field(22)?,
        })
    }

    fn write(&self, out: &mut String) {
        let seconds = in_seconds(self.ticks);
        // OpenMetrics names the family without `_total`.
        let of = "process_cpu_seconds";
        let _ = writeln!(
            out,
            "# HELP {of} Processor time.\n# TYPE {of} counter\n# UNIT {of} seconds\n{of}_total {seconds}"
        );
        if let Some(started) = self.started() {
            write_start(out, started);
        }
    }

    /// Seconds since 1970.
    fn started(&self) -> Option<f64> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(boot.trim().parse::<f64>().ok()? + in_seconds(self.start))
    }
}

fn write_start(out: &mut String, started: f64) {
    let name = ("process_start_time_seconds", "gauge");
    family(out, name, "When the process began, since 1970", started);
}

/// A size of `/proc/self/status` (proc_pid_status(5)), which is in KiB there.
fn bytes(status: &str, field: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
    let size: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(size * 1024)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "2^53 ticks are three million years"
)]
fn in_seconds(ticks: u64) -> f64 {
    ticks as f64 / USER_HZ
}

/// Clock ticks of `/proc` in a second, on every architecture that Rust has (`include/asm-generic/param.h`).
const USER_HZ: f64 = 100.0;

/// Writing to a String cannot fail.
fn family(out: &mut String, (name, kind): (&str, &str), help: &str, value: impl std::fmt::Display) {
    let _ = writeln!(
        out,
        "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_named_anything() {
        let text =
            "42 (a) b ( c) S 1 42 42 0 -1 4194560 900 0 0 0 7 5 0 0 20 0 3 0 1234 8192 56 184467";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.ticks, stat.start), (12, 1_234));
        assert!(Stat::parse("42 (a) S 1").is_none());
    }

    /// Every name that kube-proxy has of its process, but for the bytes of its network, which are the node's.
    #[test]
    fn this_process_is_told_of() {
        let text = lines();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_virtual_memory_max_bytes",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
        ] {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .unwrap_or_else(|| panic!("{name} is not in\n{text}"));
            assert!(value.parse::<f64>().unwrap() >= 0.0, "{name} {value}");
        }
        let started: f64 = start_line().lines().last().unwrap()
            ["process_start_time_seconds ".len()..]
            .parse()
            .unwrap();
        assert!(started > 1.5e9, "{started}");
    }
}
