//! Addresses and networks: strict parsing, and what to say about the rest.
//!
//! Strict since Kubernetes 1.36: no leading zeros (some stacks read them as octal), no IPv4-mapped IPv6, and no bits of a
//! network beyond its prefix. A value that an object already had is let through on update.
//! Source: `k8s.io/apimachinery/pkg/util/validation/ip.go`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::field::{FieldError, Path};

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address family, in the words of `ipFamilies` and `addressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `IPv4` or `IPv6`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The family of that name, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::V4, Self::V6]
            .into_iter()
            .find(|f| f.as_str() == text)
    }

    /// The other of the two.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// An address with leading zeros removed, or `None` if it is none at all.
pub fn parse_sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let (head, v4) = match text.rfind(':') {
        Some(colon) => text.split_at(colon + 1),
        None => ("", text),
    };
    let octets: Vec<&str> = v4.split('.').collect();
    if octets.len() != 4
        || !octets
            .iter()
            .all(|o| !o.is_empty() && o.bytes().all(|b| b.is_ascii_digit()))
    {
        return None;
    }
    let plain: Vec<&str> = octets
        .iter()
        .map(|o| o.trim_start_matches('0'))
        .map(|o| if o.is_empty() { "0" } else { o })
        .collect();
    format!("{head}{}", plain.join(".")).parse().ok()
}

fn mapped(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => ip.to_ipv4_mapped(),
    }
}

/// A strict address, or why it is none.
///
/// # Errors
/// The text for the field error.
pub fn parse_ip(text: &str) -> Result<IpAddr, &'static str> {
    match (text.parse::<IpAddr>(), parse_sloppy(text)) {
        (Ok(ip), _) if mapped(ip).is_some() => Err("must not be an IPv4-mapped IPv6 address"),
        (Ok(ip), _) => Ok(ip),
        (Err(_), Some(_)) => Err("must not have leading 0s"),
        (Err(_), None) => Err(NOT_AN_IP),
    }
}

/// A network: the first address and the prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    first: u128,
    family: Family,
    prefix: u8,
}

impl Cidr {
    /// The network that `ip` is in; bits beyond the prefix are cleared.
    pub fn new(ip: IpAddr, prefix: u8) -> Self {
        let family = Family::of(ip);
        let bits = number(ip);
        let host = width(family) - prefix.min(width(family));
        Self {
            first: bits & !mask(host),
            family,
            prefix: prefix.min(width(family)),
        }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Bits of the network part.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Bits of the host part.
    pub fn host_bits(&self) -> u8 {
        width(self.family) - self.prefix
    }

    /// The lowest address, as a number.
    pub fn first(&self) -> u128 {
        self.first
    }

    /// The highest address, as a number.
    pub fn last(&self) -> u128 {
        self.first | mask(self.host_bits())
    }

    /// The address with this number, in this family.
    pub fn address(&self, number: u128) -> IpAddr {
        address(self.family, number)
    }

    /// Whether the address is one of this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        Family::of(ip) == self.family && (self.first..=self.last()).contains(&number(ip))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address(self.first), self.prefix)
    }
}

fn width(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

fn mask(bits: u8) -> u128 {
    if bits >= 128 {
        u128::MAX
    } else {
        (1 << bits) - 1
    }
}

/// An address as a number; IPv4 takes the low 32 bits.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// The address of that number; for IPv4 the low 32 bits count.
pub fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let low = u32::try_from(number & u128::from(u32::MAX)).expect("masked to 32 bits");
            Ipv4Addr::from(low).into()
        }
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

/// A strict network, or why it is none.
///
/// # Errors
/// The text for the field error.
pub fn parse_cidr(text: &str) -> Result<Cidr, &'static str> {
    let (ip, prefix) = text.split_once('/').ok_or(NOT_A_CIDR)?;
    let sloppy = parse_sloppy(ip).ok_or(NOT_A_CIDR)?;
    let digits =
        !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
    let bits: u8 = prefix.parse().ok().filter(|_| digits).ok_or(NOT_A_CIDR)?;
    if bits > width(Family::of(sloppy)) {
        return Err(NOT_A_CIDR);
    }
    if ip.parse::<IpAddr>().is_err() || (prefix.len() > 1 && prefix.starts_with('0')) {
        return Err("must not have leading 0s in IP or prefix length");
    }
    if mapped(sloppy).is_some() {
        return Err("must not have an IPv4-mapped IPv6 address");
    }
    let cidr = Cidr::new(sloppy, bits);
    if cidr.first() != number(sloppy) {
        return Err("must not have bits set beyond the prefix length");
    }
    Ok(cidr)
}

/// An address at `path`; one that was there before is let through.
pub fn validate_ip(path: &Path, text: &str, before: &[&str]) -> Option<FieldError> {
    if before.contains(&text) && parse_sloppy(text).is_some() {
        return None;
    }
    parse_ip(text)
        .err()
        .map(|why| FieldError::invalid(path, text, why))
}

/// A network at `path`; one that was there before is let through.
pub fn validate_cidr(path: &Path, text: &str, before: &[&str]) -> Option<FieldError> {
    if before.contains(&text) {
        return None;
    }
    parse_cidr(text)
        .err()
        .map(|why| FieldError::invalid(path, text, why))
}

/// A network written in its one canonical form (ServiceCIDR, pod networks), or why it is none.
///
/// # Errors
/// The text for the field error.
pub fn parse_canonical_cidr(text: &str) -> Result<Cidr, String> {
    let cidr = parse_cidr(text)?;
    if cidr.to_string() == text {
        return Ok(cidr);
    }
    Err(format!("must be in canonical form (\"{cidr}\")"))
}

/// An address that packets can be sent to: not unspecified, loopback or link-local.
pub fn validate_reachable(path: &Path, text: &str) -> Vec<FieldError> {
    let Some(ip) = parse_sloppy(text) else {
        return Vec::new();
    };
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    };
    let rules = [
        (
            ip.is_unspecified(),
            format!("may not be unspecified ({text})"),
        ),
        (
            ip.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    rules
        .into_iter()
        .filter(|(hit, _)| *hit)
        .map(|(_, why)| FieldError::invalid(path, text, why))
        .collect()
}

/// What to warn about an address that is accepted as it is written.
pub fn warn_ip(path: &Path, text: &str) -> Option<String> {
    let ip = parse_sloppy(text)?;
    if parse_ip(text).is_err() {
        let plain = mapped(ip).map_or(ip, IpAddr::V4);
        return Some(format!(
            "{path}: non-standard IP address \"{text}\" will be considered invalid in a future Kubernetes release: use \"{plain}\""
        ));
    }
    let canonical = ip.to_string();
    (canonical != text).then(|| format!("{path}: IPv6 address \"{text}\" should be in RFC 5952 canonical format (\"{canonical}\")"))
}

/// What to warn about a network that is accepted as it is written.
pub fn warn_cidr(path: &Path, text: &str) -> Option<String> {
    match parse_cidr(text) {
        Ok(cidr) if cidr.to_string() != text => Some(format!(
            "{path}: IPv6 CIDR value \"{text}\" should be in RFC 5952 canonical format (\"{cidr}\")"
        )),
        Ok(_) => None,
        Err(_) => {
            let (ip, prefix) = text.split_once('/')?;
            let cidr = Cidr::new(parse_sloppy(ip)?, prefix.parse().ok()?);
            Some(format!(
                "{path}: non-standard CIDR value \"{text}\" will be considered invalid in a future Kubernetes release: use \"{cidr}\""
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_addresses() {
        let rows = [
            ("10.9.8.7", Ok("10.9.8.7")),
            ("2001:DB8::0:1", Ok("2001:db8::1")),
            ("010.9.8.7", Err("must not have leading 0s")),
            ("::ffff:010.1.2.3", Err("must not have leading 0s")),
            (
                "::ffff:10.1.2.3",
                Err("must not be an IPv4-mapped IPv6 address"),
            ),
            ("10.9.8", Err(NOT_AN_IP)),
            ("10.9.8.256", Err(NOT_AN_IP)),
            ("fe80::1%eth0", Err(NOT_AN_IP)),
            ("", Err(NOT_AN_IP)),
        ];
        for (text, expected) in rows {
            assert_eq!(
                parse_ip(text).map(|ip| ip.to_string()),
                expected.map(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn strict_networks() {
        let rows = [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("fd00:10:96::/112", Ok("fd00:10:96::/112")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("::/0", Ok("::/0")),
            (
                "10.0.0.1/8",
                Err("must not have bits set beyond the prefix length"),
            ),
            (
                "010.0.0.0/8",
                Err("must not have leading 0s in IP or prefix length"),
            ),
            (
                "10.0.0.0/08",
                Err("must not have leading 0s in IP or prefix length"),
            ),
            (
                "::ffff:10.0.0.0/104",
                Err("must not have an IPv4-mapped IPv6 address"),
            ),
            ("10.0.0.0", Err(NOT_A_CIDR)),
            ("10.0.0.0/33", Err(NOT_A_CIDR)),
            ("10.0.0.0/+8", Err(NOT_A_CIDR)),
            ("x/8", Err(NOT_A_CIDR)),
        ];
        for (text, expected) in rows {
            assert_eq!(
                parse_cidr(text).map(|c| c.to_string()),
                expected.map(str::to_owned),
                "{text}"
            );
        }
    }

    #[test]
    fn unreachable_addresses_are_refused_with_their_range() {
        let rows = [
            ("192.0.2.1", ""),
            ("2001:db8::1", ""),
            ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
            (
                "127.0.0.1",
                "may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                "::1",
                "may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                "169.254.1.1",
                "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ),
            (
                "fe80::1",
                "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
            ),
            (
                "224.0.0.251",
                "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
            ),
        ];
        for (text, why) in rows {
            let wrong = validate_reachable(&Path::new("ip"), text);
            assert_eq!(
                wrong.first().map_or("", |e| e.detail.as_str()),
                why,
                "{text}"
            );
        }
    }

    #[test]
    fn an_old_value_may_stay_as_it_was() {
        let path = Path::new("ip");
        assert!(validate_ip(&path, "010.0.0.1", &["010.0.0.1"]).is_none());
        assert!(validate_ip(&path, "010.0.0.1", &["10.0.0.1"]).is_some());
        assert!(validate_cidr(&path, "10.0.0.1/8", &["10.0.0.1/8"]).is_none());
    }

    #[test]
    fn accepted_but_unusual_forms_are_warned_about() {
        let path = Path::new("ip");
        assert_eq!(warn_ip(&path, "10.0.0.1"), None);
        let text = warn_ip(&path, "2001:DB8::1").expect("not canonical");
        assert_eq!(
            text,
            "ip: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"
        );
        assert!(warn_cidr(&path, "10.0.0.1/8").is_some_and(|w| w.ends_with("use \"10.0.0.0/8\"")));
    }
}
