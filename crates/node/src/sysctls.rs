//! Kernel settings that a proxy on a busy node wants: room for connections and how long they are remembered.
//!
//! What is set already is not written: the agent may run without the right to, after a privileged start has done it
//! (`--init-only`). `nf_conntrack_max` is raised and never lowered. (kubernetes `pkg/proxy/conntrack/sysctls.go`.)

use std::fs;

use daymark_sys::sysctl::{Sysctl, SysctlError};

/// What is wanted; `None` leaves a setting as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `nf_conntrack_max`: how many connections are tracked at most.
    pub max: Option<Max>,
    /// `nf_conntrack_tcp_timeout_established`, in seconds.
    pub tcp_established: Option<u32>,
    /// `nf_conntrack_tcp_timeout_close_wait`, in seconds.
    pub tcp_close_wait: Option<u32>,
    /// `nf_conntrack_udp_timeout`, in seconds.
    pub udp: Option<u32>,
    /// `nf_conntrack_udp_timeout_stream`, in seconds.
    pub udp_stream: Option<u32>,
    /// `nf_conntrack_tcp_be_liberal`.
    pub tcp: Tcp,
    /// `arp_ignore` and `arp_announce`.
    pub arp: Arp,
}

/// How many connections there should be room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Max {
    /// For each core.
    pub per_core: u32,
    /// And at least.
    pub least: u32,
}

/// What becomes of TCP segments outside the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tcp {
    /// The setting stays as it is.
    #[default]
    AsItIs,
    /// They belong to their connection.
    Liberal,
}

/// Who answers ARP for addresses of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arp {
    /// The settings stay as they are.
    #[default]
    AsItIs,
    /// The interface that has the address, and no other.
    Strict,
}

impl Max {
    /// The limit for so many cores: at most 1,048,576, unless more are asked for at least.
    #[must_use]
    pub fn of(self, cores: u32) -> u32 {
        let all = self.per_core.saturating_mul(cores).min(MOST);
        all.max(self.least)
    }
}

/// Sets what is not as wanted. Returns the settings that could not be set; everything else is.
#[must_use]
pub fn set(wanted: &Wanted) -> Vec<SysctlError> {
    let mut failures = Vec::new();
    if let Some(max) = wanted.max {
        failures.extend(raise_max(max.of(cores())).err());
    }
    let tcp_liberal = (wanted.tcp == Tcp::Liberal).then_some(1);
    let strict = wanted.arp == Arp::Strict;
    let settings = [
        (TCP_ESTABLISHED, wanted.tcp_established),
        (TCP_CLOSE_WAIT, wanted.tcp_close_wait),
        (UDP, wanted.udp),
        (UDP_STREAM, wanted.udp_stream),
        (TCP_LIBERAL, tcp_liberal),
        ("net/ipv4/conf/all/arp_ignore", strict.then_some(1)),
        ("net/ipv4/conf/all/arp_announce", strict.then_some(2)),
    ];
    for (name, value) in settings {
        if let Some(value) = value {
            failures.extend(set_one(name, value).err());
        }
    }
    failures
}

/// Room in the table, and chains in it short enough to be searched: a fourth as many (`nf_conntrack_init_start`).
fn raise_max(max: u32) -> Result<(), SysctlError> {
    raise(&Sysctl::new(MAX), max)?;
    raise(&Sysctl::new(BUCKETS), max / 4)
}

fn raise(setting: &Sysctl, value: u32) -> Result<(), SysctlError> {
    match read(setting)? {
        Some(now) if now >= value => Ok(()),
        _ => {
            setting.write(&value.to_string())?;
            tracing::info!(setting = setting.name(), value, "raised a kernel setting");
            Ok(())
        }
    }
}

fn set_one(name: &str, value: u32) -> Result<(), SysctlError> {
    let setting = Sysctl::new(name);
    if read(&setting)? == Some(value) {
        return Ok(());
    }
    setting.write(&value.to_string())?;
    tracing::info!(setting = name, value, "set a kernel setting");
    Ok(())
}

fn read(setting: &Sysctl) -> Result<Option<u32>, SysctlError> {
    Ok(setting.read()?.parse().ok())
}

/// The machine's cores that run, not those this process may use: the table is the machine's.
fn cores() -> u32 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    let online = online.as_deref().and_then(count);
    online.unwrap_or_else(|| {
        std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
    })
}

/// How many numbers a list such as `0-3,6` names (kernel `Documentation/admin-guide/cputopology.rst`).
fn count(list: &str) -> Option<u32> {
    let mut total = 0_u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        let more = last.checked_sub(first)?.checked_add(1)?;
        total = total.checked_add(more)?;
    }
    Some(total)
}

/// More entries than this cost memory that few nodes have.
const MOST: u32 = 1_048_576;
const MAX: &str = "net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "net/netfilter/nf_conntrack_buckets";
const TCP_ESTABLISHED: &str = "net/netfilter/nf_conntrack_tcp_timeout_established";
const TCP_CLOSE_WAIT: &str = "net/netfilter/nf_conntrack_tcp_timeout_close_wait";
const TCP_LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";
const UDP: &str = "net/netfilter/nf_conntrack_udp_timeout";
const UDP_STREAM: &str = "net/netfilter/nf_conntrack_udp_timeout_stream";

#[cfg(test)]
mod tests {
    use daymark_sys::ns::isolated_test;

    use super::*;

    #[test]
    fn the_limit_grows_with_the_cores_and_has_two_ends() {
        let max = |per_core, least| Max { per_core, least };
        assert_eq!(max(32_768, 131_072).of(2), 131_072);
        assert_eq!(max(32_768, 131_072).of(8), 262_144);
        assert_eq!(max(32_768, 131_072).of(96), MOST);
        assert_eq!(max(32_768, 2_000_000).of(96), 2_000_000);
        assert_eq!(max(u32::MAX, 0).of(u32::MAX), MOST);
    }

    #[test]
    fn cores_are_counted_from_ranges() {
        let rows = [
            ("0", Some(1)),
            ("0-3\n", Some(4)),
            ("0-1,4,6-7", Some(5)),
            ("", None),
            ("3-1", None),
        ];
        for (list, expected) in rows {
            assert_eq!(count(list), expected, "{list:?}");
        }
    }

    /// In a namespace of its own: the table's size belongs to the machine there, and cannot be raised.
    #[test]
    fn what_is_wanted_is_set_and_what_cannot_be_is_named() {
        let test = "sysctls::tests::what_is_wanted_is_set_and_what_cannot_be_is_named";
        isolated_test(test, || {
            let wanted = Wanted {
                tcp_established: Some(86_399),
                udp_stream: Some(121),
                tcp: Tcp::Liberal,
                arp: Arp::Strict,
                ..Wanted::default()
            };
            let failures = set(&wanted);
            assert!(failures.is_empty(), "{failures:?}");
            let value = |name| Sysctl::new(name).read().unwrap();
            assert_eq!(value(TCP_ESTABLISHED), "86399");
            assert_eq!(value(UDP_STREAM), "121");
            assert_eq!(value(TCP_LIBERAL), "1");
            assert_eq!(value("net/ipv4/conf/all/arp_announce"), "2");
            // A limit that is there is enough, whoever may write it.
            let now: u32 = value(MAX).parse().unwrap();
            let buckets: u32 = value(BUCKETS).parse().unwrap();
            let enough = Max {
                per_core: 1,
                least: now.min(buckets * 4),
            };
            assert!(
                set(&Wanted {
                    max: Some(enough),
                    ..Wanted::default()
                })
                .is_empty()
            );
            let more = Max {
                per_core: 1,
                least: now + 1,
            };
            let failures = set(&Wanted {
                max: Some(more),
                ..Wanted::default()
            });
            assert_eq!(failures.len(), 1, "{failures:?}");
            assert!(failures[0].to_string().contains(MAX), "{}", failures[0]);
        });
    }
}
