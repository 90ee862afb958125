//! The findings for people.

use std::fmt::Write;

use daymark_node::ask::wire::{Answer, Cause, Endpoint, Explained, Kernel, Object, Standing};

use super::Findings;
use super::pods::Pods;
use super::remedies;
use crate::columns::columns;

/// All of it; with `all` every place in full.
pub(super) fn table(findings: &Findings, all: bool) -> String {
    let mut out = head(findings);
    let explained = &findings.explained;
    if let Some(cause) = &explained.cause {
        let _ = write!(out, "\n{}", causes(std::slice::from_ref(cause), 0));
    }
    if !explained.answers.is_empty() || explained.absent.is_some() {
        out.push('\n');
        out += &overview(explained);
    }
    if explained.untold > 0 {
        let _ = writeln!(
            out,
            "{} more places were not looked at: name one with --port or --address",
            explained.untold
        );
    }
    for answer in in_question(&explained.answers, all) {
        let _ = write!(out, "\n{}", in_full(answer));
    }
    if let Some(absent) = &explained.absent {
        let cause = causes(std::slice::from_ref(&absent.cause), 2);
        let _ = write!(out, "\n{}\n{cause}", absent.kind);
    }
    if !explained.listeners.is_empty() {
        let rows = explained.listeners.iter();
        let rows = rows.map(|l| vec![l.at.clone(), l.text.clone(), l.field.clone()]);
        let _ = write!(
            out,
            "\nThe agent itself\n{}",
            columns(2, &shortened(rows.collect()))
        );
    }
    match &findings.pods {
        Some(pods) => out += &pods_in_words(pods),
        None if all_causes(explained).any(remedies::ask_for_pods) => out += UNREAD,
        None => {}
    }
    out
}

const UNREAD: &str = "\nPods\n  not read: --kubeconfig FILE says how, and --answer FILE takes this answer (-o json) to where one is\n";

fn all_causes(explained: &Explained) -> impl Iterator<Item = &Cause> {
    let of_places = explained.answers.iter().flat_map(|answer| &answer.causes);
    explained.cause.iter().chain(of_places)
}

/// The places to be told in full: of those that fail for one reason the first, or else the first that was asked.
fn in_question(answers: &[Answer], all: bool) -> Vec<&Answer> {
    if all {
        return answers.iter().collect();
    }
    let asked = || answers.iter().filter(|answer| answer.packet.is_some());
    let mut told: Vec<&Answer> = Vec::new();
    for answer in asked().filter(|answer| !is_good(answer)) {
        let same =
            |known: &&Answer| known.causes == answer.causes && agrees(known) == agrees(answer);
        if !told.iter().any(same) {
            told.push(answer);
        }
    }
    if told.is_empty() {
        told.extend(asked().next());
    }
    told
}

fn agrees(answer: &Answer) -> bool {
    answer.kernel.as_ref().is_some_and(|kernel| kernel.agrees)
}

fn is_good(answer: &Answer) -> bool {
    answer.forwarded && agrees(answer)
}

fn head(findings: &Findings) -> String {
    let explained = &findings.explained;
    let client: Vec<String> = explained.client.iter().map(ToString::to_string).collect();
    let client = if client.is_empty() {
        String::new()
    } else {
        format!(" ({})", client.join(", "))
    };
    let from = &findings.from;
    let mut out = format!(
        "Service {} at {}, from {from}{client}\n",
        explained.service, explained.node
    );
    if let Some(note) = &findings.note {
        let _ = writeln!(out, "note: {note}");
    }
    if let Some(stale) = &explained.stale {
        let _ = writeln!(out, "note: the agent is not up to date: {stale}");
    }
    out
}

/// A row a place.
fn overview(explained: &Explained) -> String {
    let mut rows = vec![["PLACE", "KIND", "VERDICT"].map(str::to_owned).to_vec()];
    for answer in &explained.answers {
        rows.push(vec![
            answer.at.clone(),
            answer.kind.clone(),
            verdict(answer),
        ]);
    }
    let absent = explained.absent.iter();
    rows.extend(absent.map(|absent| {
        let none = format!("none: {}", absent.cause.text);
        vec!["-".to_owned(), absent.kind.clone(), none]
    }));
    columns(0, &rows)
}

fn verdict(answer: &Answer) -> String {
    let used = answer.standings.iter().find(|s| s.standing == "used");
    let used = used.map_or(0, |used| used.endpoints);
    let s = if used == 1 { "" } else { "s" };
    let what = match answer.verdict.as_deref() {
        None => "not asked",
        Some("forward") if answer.forwarded => {
            let kernel = match &answer.kernel {
                Some(kernel) if !kernel.agrees => ", but the kernel holds something else",
                _ => "",
            };
            return format!("forwarded to {used} endpoint{s}{kernel}");
        }
        Some("forward") => "another Service's",
        Some("reject") => "refused",
        Some("drop") => "dropped",
        Some(_) => "left alone",
    };
    let why = answer
        .causes
        .first()
        .map(|cause| format!(": {}", cause.text));
    format!("{what}{}", why.unwrap_or_default())
}

fn in_full(answer: &Answer) -> String {
    let mut out = format!("{} ({})\n", answer.at, answer.kind);
    let steps = answer.steps.iter().map(|step| {
        let (rule, outcome) = (step.rule.clone(), step.outcome.clone());
        vec![rule, outcome, step.field.clone()]
    });
    section(&mut out, "rules", steps.collect());
    let all: usize = answer.standings.iter().map(|s| s.endpoints).sum();
    let endpoints: Vec<Vec<String>> = if all > MOST {
        summary(answer)
    } else {
        answer.endpoints.iter().map(endpoint).collect()
    };
    // Of a Service of two families the other one's slices are a matter of course, unless nothing else is there.
    let of_course = |why: &str| why == "other-family" && !answer.endpoints.is_empty();
    let skipped = answer
        .skipped
        .iter()
        .filter(|skipped| !of_course(&skipped.why));
    let skipped = skipped.map(|skipped| {
        let count = format!("{} endpoints", skipped.endpoints);
        let slice = skipped.slice.clone();
        vec![
            count,
            "-".to_owned(),
            slice,
            format!("left out: {}", skipped.text),
        ]
    });
    let rows = endpoints.into_iter().chain(shortened(skipped.collect()));
    section(&mut out, "endpoints", rows.collect());
    if let Some(kernel) = &answer.kernel {
        out += &in_kernel(kernel);
    }
    out += &causes(&answer.causes, 2);
    out
}

fn section(out: &mut String, name: &str, rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        let _ = write!(out, "  {name}\n{}", columns(4, &rows));
    }
}

/// Many endpoints: how many there are of each standing, and the first of them. The most come last.
fn summary(answer: &Answer) -> Vec<Vec<String>> {
    let mut standings: Vec<&Standing> = answer.standings.iter().collect();
    standings.sort_by_key(|standing| standing.endpoints);
    let row = |standing: &&Standing| {
        let of = answer.endpoints.iter();
        let of = of.filter(|e| e.standing == standing.standing).take(FEW);
        let named: Vec<String> = of
            .map(|endpoint| match &endpoint.node {
                Some(node) => format!("{} on {node}", address(endpoint)),
                None => address(endpoint),
            })
            .collect();
        let more = if standing.endpoints > named.len() {
            ", ..."
        } else {
            ""
        };
        let count = format!("{} endpoints", standing.endpoints);
        let named = format!("{}{more}", named.join(", "));
        vec![count, standing.text.clone(), named]
    };
    standings.iter().map(row).collect()
}

fn address(endpoint: &Endpoint) -> String {
    match endpoint.port {
        Some(port) => std::net::SocketAddr::new(endpoint.address, port).to_string(),
        None => endpoint.address.to_string(),
    }
}

fn endpoint(endpoint: &Endpoint) -> Vec<String> {
    let address = address(endpoint);
    let node = endpoint.node.clone().unwrap_or_else(|| "-".to_owned());
    vec![address, node, endpoint.slice.clone(), endpoint.text.clone()]
}

fn in_kernel(kernel: &Kernel) -> String {
    let state = match (&kernel.unread, kernel.agrees) {
        (Some(why), _) => format!("could not be asked: {why}"),
        (None, true) => "as it should be".to_owned(),
        (None, false) => {
            "NOT as it should be: the agent mends what it hears of; daymark status shows all"
                .to_owned()
        }
    };
    let mut out = format!("  kernel: table {}, {state}\n", kernel.table);
    out += &columns(4, &objects(kernel));
    if kernel.unasked > 0 {
        let count = kernel.unasked;
        let _ = writeln!(
            out,
            "    {count} more elements were not asked for: daymark status compares all"
        );
    }
    for refused in &kernel.refused {
        let _ = writeln!(
            out,
            "    the kernel refused {}: {}",
            refused.shown, refused.reason
        );
    }
    if let Some(count) = kernel.connections {
        let _ = writeln!(
            out,
            "    {count} new connections so far to this port, at all its places of this family"
        );
    }
    if let Some(kept) = &kernel.kept {
        let time = kept.seconds.map(|seconds| format!(" for {seconds} s more"));
        let time = time.unwrap_or_default();
        let _ = writeln!(out, "    the client keeps {}{time}", kept.endpoint);
    }
    out
}

/// What differs first; of what is as it should be the first of each set, and how much more there is.
fn objects(kernel: &Kernel) -> Vec<Vec<String>> {
    let is_same = |object: &&Object| object.agreement == "same";
    let differ = kernel.objects.iter().filter(|object| !is_same(object));
    let mut rows = shortened(differ.map(object).collect());
    let unlisted = kernel.more.iter().filter(|more| more.differing > 0);
    rows.extend(unlisted.map(|more| {
        let said = format!("... and {} more", more.differing);
        vec![more.object.clone(), said, "not the same".to_owned()]
    }));
    let same: Vec<&Object> = kernel.objects.iter().filter(is_same).collect();
    for of_set in same.chunk_by(|a, b| a.object == b.object) {
        let name = &of_set[0].object;
        let unlisted = kernel.more.iter().find(|more| more.object == *name);
        let unlisted = unlisted.map_or(0, |more| more.same);
        let most = if of_set.len() + unlisted > MOST / 2 {
            FEW
        } else {
            of_set.len()
        };
        rows.extend(of_set.iter().take(most).map(|same| object(same)));
        let more = of_set.len() + unlisted - most;
        if more > 0 {
            let said = format!("... and {more} more");
            rows.push(vec![name.clone(), said, "same".to_owned()]);
        }
    }
    rows
}

fn object(object: &Object) -> Vec<String> {
    let mut row = vec![
        object.object.clone(),
        object.meaning.clone(),
        object.agreement.clone(),
    ];
    if object.agreement != "same" {
        let (wanted, held) = (object.wanted.join("; "), object.held.join("; "));
        let or_nothing = |text: String| {
            if text.is_empty() {
                "nothing".to_owned()
            } else {
                text
            }
        };
        row.push(format!(
            "wanted {}, held {}",
            or_nothing(wanted),
            or_nothing(held)
        ));
    }
    row
}

/// No list of a thousand.
fn shortened(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let more = rows.len().saturating_sub(MOST);
    if more > 1 {
        rows.truncate(MOST);
        rows.push(vec![format!("... and {more} more (-o json has more)")]);
    }
    rows
}

/// Rows of a list.
const MOST: usize = 20;
/// How many of many are named.
const FEW: usize = 3;

fn causes(causes: &[Cause], indent: usize) -> String {
    let mut out = String::new();
    for cause in causes {
        let _ = writeln!(out, "{:indent$}why:    {}", "", cause.text);
        let _ = writeln!(out, "{:indent$}remedy: {}", "", cause.remedy);
    }
    out
}

fn pods_in_words(pods: &Pods) -> String {
    if pods.says_nothing() {
        return String::new();
    }
    let mut out = String::from("\nPods\n");
    if let Some(why) = &pods.unread {
        let _ = writeln!(out, "  could not be read: {why}");
    }
    if let Some(selector) = &pods.selector {
        let _ = writeln!(out, "  {selector}");
    }
    let rows = pods.selected.iter().map(|pod| {
        let node = pod.node.clone().unwrap_or_else(|| "-".to_owned());
        let addresses = match pod.addresses.join(" ") {
            none if none.is_empty() => "-".to_owned(),
            some => some,
        };
        let state = match pod.obstacles.join("; ") {
            none if none.is_empty() => "endpoint".to_owned(),
            some => some,
        };
        vec![pod.name.clone(), node, addresses, state]
    });
    out += &columns(2, &shortened(rows.collect()));
    out
}
