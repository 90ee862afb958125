//! What the parts of a lab said last, for whoever has to find out why something did not hold.

use super::Cluster;
use crate::child::tail;

impl Cluster {
    /// The end of each part's log, under the part's name.
    pub fn last_words(&self) -> String {
        let folder = self.spec.state.join("logs");
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut logs: Vec<_> = entries.map(|entry| entry.path()).collect();
        logs.sort();
        let said = logs.iter().map(|log| {
            let part = log.file_stem().unwrap_or_default().to_string_lossy();
            format!("--- {part} said last:\n{}\n", tail(log).trim_end())
        });
        said.collect()
    }
}
