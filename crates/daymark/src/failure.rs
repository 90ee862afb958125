//! How an error is told.

use std::process::ExitCode;

use crate::out::warn_line;

/// The error and its causes, each that says more than those before it. Many errors quote their cause.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if said.is_empty() {
            said = text;
        } else if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
    }
    said
}

/// Says an error, and gives the code to end with.
pub(crate) fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    warn_line!("daymark: {}", sentence(error));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::sentence;

    #[test]
    fn a_cause_that_was_quoted_is_not_told_again() {
        let rows = [
            (anyhow!("taken"), "taken"),
            (anyhow!("taken").context("port 53"), "port 53: taken"),
            (
                anyhow!("taken").context("port 53: taken; choose another"),
                "port 53: taken; choose another",
            ),
            (
                anyhow!("no such file")
                    .context("no such file")
                    .context("reading a.conf"),
                "reading a.conf: no such file",
            ),
        ];
        for (error, expected) in rows {
            assert_eq!(sentence(&error), expected);
        }
    }
}
