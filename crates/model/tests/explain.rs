//! An explanation says what `decide` decides, and names the cause of what does not get through.

mod agreement;
mod causes;
mod words;

use std::net::IpAddr;

use daymark_case::Case;
use daymark_model::explain::{Asker, Cause, Question, Sender, explain};
use daymark_model::{ServiceKey, World};

pub(crate) const NODE: &str = "node node-1 172.30.0.11 pods=10.244.1.0/24 zone=a\n";

pub(crate) fn world(text: &str) -> World {
    let (options, objects) = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("options") => (format!("{first}\n"), rest),
        _ => (String::new(), text),
    };
    let text = format!("{options}{NODE}{objects}");
    let case = Case::parse("here", &text).expect("the text is a case");
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    world
}

pub(crate) fn from(source: &str) -> Asker {
    let parse = |ip: &str| ip.parse::<IpAddr>().expect("an address");
    match source {
        "node" => Asker {
            sender: Sender::Node,
            addresses: Vec::new(),
        },
        ips => Asker {
            sender: Sender::Somebody,
            addresses: ips.split(',').map(parse).collect(),
        },
    }
}

pub(crate) fn ask(source: &str) -> Question {
    Question {
        service: ServiceKey::new("default", "web"),
        port: None,
        address: None,
        client: from(source),
    }
}

pub(crate) const POD: &str = "10.244.1.9";
pub(crate) const OUTSIDE: &str = "192.0.2.7";

/// The causes of the only answer, or why there is none.
pub(crate) fn causes_of(world: &World, question: &Question) -> Vec<Cause> {
    match explain(world, question) {
        Err(cause) => vec![cause],
        Ok(answers) => {
            assert_eq!(answers.len(), 1, "{answers:?}");
            answers[0].causes.clone()
        }
    }
}

/// The one cause for a packet of `source` to `address`, by its code and in words.
pub(crate) fn check(text: &str, source: &str, address: Option<&str>, code: &str, words: &str) {
    let world = world(text);
    let question = Question {
        address: address.map(|ip| ip.parse().expect("an address")),
        ..ask(source)
    };
    let found = causes_of(&world, &question);
    let told: Vec<(&str, String)> = found.iter().map(|c| (c.code(), c.to_string())).collect();
    assert_eq!(told, [(code, words.to_owned())], "{text}");
    let remedy = found[0].remedy();
    assert!(remedy.split(' ').count() >= 3, "no sentence: {remedy}");
}
