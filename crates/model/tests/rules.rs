//! The choices: their words, and those of each mode of kube-proxy.

use daymark_model::node_ports::NodePortAddresses;
use daymark_model::rules::NAMES;
use daymark_model::{Mode, Options, Rules};

#[test]
fn every_choice_takes_each_of_its_words_and_says_it_again() {
    let default = Rules::default();
    let all = default.all_words();
    assert_eq!(all.len(), NAMES.len());
    for ((name, words), (of, word)) in NAMES.into_iter().zip(all) {
        assert_eq!(name, of);
        let mut words = words.split(", ");
        // The default stands first, and is not told.
        assert_eq!(words.next(), Some(&*word), "{name}");
        let mut rules = Rules::default();
        assert_eq!(rules.set(name, &word), Some(()), "{name}");
        assert_eq!(rules, default, "{name}");
        assert_eq!(rules.words(), [], "{name}");
        for word in words.map(|word| word.replace("PREFIX,...", "192.0.2.0/24,2001:db8::/32")) {
            let mut rules = Rules::default();
            assert_eq!(rules.set(name, &word), Some(()), "{name}={word}");
            assert_ne!(rules, default, "{name}={word}");
            assert_eq!(rules.words(), [(name, word)]);
        }
        for wrong in [
            "",
            "Drop",
            "some",
            "cidr:",
            "cidr:192.0.2.0",
            "cidr:192.0.2.0/24,",
        ] {
            let mut rules = Rules::default();
            assert_eq!(rules.set(name, wrong), None, "{name}={wrong}");
            assert_eq!(rules, default, "{name}={wrong}");
        }
    }
    assert_eq!(Rules::default().set("unknown", "drop"), None);
}

/// The last table of docs/semantics.md: choice, daymark's own word, and those of the modes.
fn table() -> Vec<[String; 5]> {
    let text = include_str!("../../../docs/semantics.md");
    let (_, table) = text
        .split_once("| choice | daymark | iptables | ipvs | nftables |")
        .expect("the table of the modes");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells = line.trim_matches('|').split(" |");
        // What follows a semicolon is for a gate that is off by default.
        let cells = cells.map(|cell| cell.split(';').next().unwrap_or_default());
        let cells: Vec<String> = cells
            .map(|cell| cell.replace('`', "").trim().into())
            .collect();
        cells.try_into().unwrap_or_else(|cells| panic!("{cells:?}"))
    };
    rows.map(row).collect()
}

#[test]
fn the_words_of_each_mode_are_those_of_the_documentation() {
    assert_eq!(
        Mode::ALL.map(|mode| mode.to_string()),
        ["iptables", "ipvs", "nftables"]
    );
    let of_daymark = Options::default();
    let modes = Mode::ALL.map(Options::of_mode);
    let columns = [&of_daymark, &modes[0], &modes[1], &modes[2]];
    let mut told = 0;
    for [choice, words @ ..] in table() {
        for (options, word) in columns.into_iter().zip(words) {
            let is = match &*choice {
                "node ports answer at" => {
                    let NodePortAddresses(entries) = &options.node_port_addresses;
                    let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
                    entries.join(" ")
                }
                rule => {
                    let mut all = options.rules.all_words().into_iter();
                    let found = all.find(|(name, _)| *name == rule);
                    found.unwrap_or_else(|| panic!("{rule} is no choice")).1
                }
            };
            assert_eq!(is, word, "{choice}");
            told += 1;
        }
    }
    assert_eq!(told, 4 * (NAMES.len() + 1));
}
