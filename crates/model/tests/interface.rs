//! Names of interfaces, and patterns of them.

use daymark_model::{Interface, InterfacePattern};

fn interface(name: &str) -> Interface {
    Interface::parse(name).unwrap_or_else(|| panic!("{name} is a name"))
}

fn pattern(text: &str) -> InterfacePattern {
    InterfacePattern::parse(text).unwrap_or_else(|| panic!("{text} is a pattern"))
}

/// linux `net/core/dev.c`, `dev_valid_name`.
#[test]
fn a_name_is_what_the_kernel_takes() {
    for name in [
        "e",
        "eth0",
        "cni0.100",
        "...",
        "a-name-of-15-by",
        "d\u{e9}j\u{e0}",
    ] {
        let read = interface(name);
        assert_eq!(read.to_string(), name);
        assert_eq!(format!("{read:?}"), format!("\"{name}\""));
        let bytes = read.bytes();
        assert_eq!(&bytes[..name.len()], name.as_bytes());
        assert!(bytes[name.len()..].iter().all(|byte| *byte == 0), "{name}");
    }
    let odd = [
        "",
        ".",
        "..",
        "a/b",
        "a:1",
        "a b",
        "a\tb",
        "a\nb",
        "a\u{b}b",
        "a\rb",
        "a\0b",
        "a-name-of-16-byt",
    ];
    for name in odd {
        assert_eq!(Interface::parse(name), None, "{name:?}");
    }
}

#[test]
fn a_pattern_is_one_name_or_a_beginning() {
    for (text, fits, does_not) in [
        ("cni0", &["cni0"][..], &["cni", "cni00", "cni1"][..]),
        ("veth*", &["veth", "veth1234"], &["vet", "vetx", "xveth"]),
    ] {
        let pattern = pattern(text);
        assert_eq!(pattern.to_string(), text);
        for name in fits {
            assert!(pattern.fits(interface(name)), "{text}, {name}");
        }
        for name in does_not {
            assert!(!pattern.fits(interface(name)), "{text}, {name}");
        }
        assert!(pattern.fits(pattern.least()), "{text}");
        assert_eq!(
            format!("{}*", pattern.least()),
            text.replace("cni0", "cni0*")
        );
    }
    for text in ["", "*", "a/*", "a-name-of-16-byt*"] {
        assert_eq!(InterfacePattern::parse(text), None, "{text}");
    }
}

#[test]
fn the_range_of_a_pattern_holds_its_names_and_no_others() {
    for text in ["cni0", "veth*"] {
        let pattern = pattern(text);
        let [first, last] = pattern.range();
        for name in [
            "a", "cni", "cni0", "cni00", "vet", "veth", "veth1", "vetz", "z",
        ] {
            let name = interface(name);
            let inside = (first..=last).contains(&name.bytes());
            assert_eq!(inside, pattern.fits(name), "{text}, {name}");
        }
    }
}
