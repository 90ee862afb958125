//! Shared names: one `Arc<str>` for each text, however many records hold it.

use std::collections::HashSet;
use std::sync::Arc;

/// Texts in use. Those that no record holds any more are swept out as the set grows.
#[derive(Debug)]
pub(crate) struct Interner {
    texts: HashSet<Arc<str>>,
    sweep_at: usize,
    empty: Arc<str>,
}

impl Default for Interner {
    fn default() -> Self {
        Self {
            texts: HashSet::new(),
            sweep_at: FIRST_SWEEP,
            empty: "".into(),
        }
    }
}

impl Interner {
    /// The shared form of `text`.
    pub(crate) fn share(&mut self, text: &str) -> Arc<str> {
        if text.is_empty() {
            return Arc::clone(&self.empty);
        }
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        if self.texts.len() >= self.sweep_at {
            self.texts.retain(|held| Arc::strong_count(held) > 1);
            self.sweep_at = FIRST_SWEEP.max(self.texts.len() * 2);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }
}

const FIRST_SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_one_allocation() {
        let mut names = Interner::default();
        assert!(Arc::ptr_eq(&names.share("node-1"), &names.share("node-1")));
        assert!(Arc::ptr_eq(&names.share(""), &names.share("")));
    }

    #[test]
    fn texts_that_nobody_holds_are_swept_out() {
        let mut names = Interner::default();
        let kept = names.share("kept");
        for i in 0..10 * FIRST_SWEEP {
            names.share(&format!("gone-{i}"));
        }
        assert!(names.texts.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &names.share("kept")));
    }
}
