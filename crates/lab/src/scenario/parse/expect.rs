//! Lines that begin with `expect`.

use std::collections::BTreeSet;

use super::words::{Words, duration};
use crate::cluster::Where;
use crate::scenario::{Action, Expectation, Finding, Seen, Target, Transport, Wanted};

pub(super) fn expect(words: &mut Words<'_>) -> Result<Action, String> {
    if words.take("load") {
        return load(words);
    }
    if words.take("object") {
        return field(words);
    }
    if words.take("endpoints") {
        return endpoints(words);
    }
    if words.take("slices") {
        return Ok(Action::ExpectSlices {
            service: words.name("NAME")?,
            count: words.number("slices")?,
            within: words.within()?,
        });
    }
    if words.take("events") {
        return Ok(Action::ExpectEvents {
            service: words.name("NAME")?,
            reason: words.next("REASON")?.to_owned(),
            count: words.number("events")?,
            within: words.within()?,
        });
    }
    let from = words.place()?;
    let (to, finding) = finding(words, &from)?;
    Ok(Action::Expect(Expectation {
        from,
        to,
        finding,
        within: words.within()?,
    }))
}

fn load(words: &mut Words<'_>) -> Result<Action, String> {
    let name = words.next("NAME")?.to_owned();
    for word in ["failures", "at", "most"] {
        words.expect(word)?;
    }
    Ok(Action::ExpectLoad {
        name,
        failures: words.number("failures at most")?,
    })
}

/// `KIND/NAME has PATH VALUE|present|absent`
fn field(words: &mut Words<'_>) -> Result<Action, String> {
    let object = words.object()?;
    words.expect("has")?;
    let path = words.next("PATH")?.to_owned();
    let wanted = match words.next("VALUE, present or absent")? {
        "present" => Wanted::Present,
        "absent" => Wanted::Absent,
        value => Wanted::Equal(
            serde_saphyr::from_str(value).map_err(|error| format!("{value}: {error}"))?,
        ),
    };
    Ok(Action::ExpectField {
        object,
        path,
        wanted,
        within: words.within()?,
    })
}

/// `NAME are none|POD:PORT,...`
fn endpoints(words: &mut Words<'_>) -> Result<Action, String> {
    let service = words.name("NAME")?;
    words.expect("are")?;
    let endpoints = match words.next("POD:PORT,... or none")? {
        "none" => BTreeSet::new(),
        list => self::list(list),
    };
    Ok(Action::ExpectEndpoints {
        service,
        endpoints,
        within: words.within()?,
    })
}

fn finding(words: &mut Words<'_>, from: &Where) -> Result<(Target, Finding), String> {
    match words.next("reaches, misses, is, times, sticks, spreads or gets")? {
        "reaches" => {
            let to = target(words)?;
            Ok((to, reached(words)?))
        }
        "misses" => Ok((target(words)?, Finding::Unanswered)),
        "is" => {
            words.expect("refused")?;
            words.expect("at")?;
            Ok((target(words)?, Finding::Refused))
        }
        "times" => {
            words.expect("out")?;
            words.expect("at")?;
            Ok((target(words)?, Finding::Silence))
        }
        "sticks" => {
            words.expect("to")?;
            Ok((target(words)?, Finding::OneForAll))
        }
        "spreads" => {
            words.expect("over")?;
            let to = target(words)?;
            let every = if words.take("every") {
                Some(duration(words.next("DURATION")?)?)
            } else {
                None
            };
            Ok((to, Finding::Several { every }))
        }
        "gets" => {
            let code = words.number("gets")?;
            words.expect("from")?;
            let to = target(words)?;
            let body = if words.take("saying") {
                Some(words.next("TEXT")?.to_owned())
            } else {
                None
            };
            Ok((to, Finding::Code { code, body }))
        }
        other => Err(format!(
            "expect {from} {other}: write reaches, misses, is refused at, times out at, sticks to, spreads over or gets \
             CODE from"
        )),
    }
}

/// `[at POD | only at POD,...] [seen as itself|another|NODE]`
fn reached(words: &mut Words<'_>) -> Result<Finding, String> {
    let only = words.take("only");
    let by = if only {
        words.expect("at")?;
        Some(words.next("POD,...")?)
    } else if words.take("at") {
        Some(words.next("POD")?)
    } else {
        None
    };
    let seen = seen(words)?;
    Ok(match by {
        Some(pods) if only => Finding::OnlyBy {
            pods: list(pods),
            seen,
        },
        by => Finding::Answered {
            by: by.map(str::to_owned),
            seen,
        },
    })
}

fn seen(words: &mut Words<'_>) -> Result<Option<Seen>, String> {
    if !words.take("seen") {
        return Ok(None);
    }
    words.expect("as")?;
    Ok(Some(match words.next("itself, another or NODE")? {
        "itself" => Seen::Itself,
        "another" => Seen::Another,
        node => Seen::Node(node.to_owned()),
    }))
}

/// `HOST:PORT[/udp] [from port N] [with N bytes]`
pub(super) fn target(words: &mut Words<'_>) -> Result<Target, String> {
    let text = words.next("HOST:PORT")?;
    let (address, protocol) = match text.strip_suffix("/udp") {
        Some(address) => (address, Transport::Udp),
        None => (text, Transport::Tcp),
    };
    let mut target = Target {
        address: address.to_owned(),
        protocol,
        from_port: None,
        bytes: 0,
    };
    if words.take("from") {
        words.expect("port")?;
        target.from_port = Some(words.number("from port")?);
    }
    if words.take("with") {
        target.bytes = words.number("with")?;
        words.expect("bytes")?;
    }
    Ok(target)
}

fn list(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::to_owned).collect()
}
