//! Values that cannot be used: each is told once, and again when the object has another in its place. A controller that writes
//! an object each second would otherwise fill the log of every node.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::findings::{Findings, Reason};
use crate::record::ObjectKey;

/// What was told of which objects.
#[derive(Debug, Default)]
pub(super) struct Unusable {
    told: HashMap<ObjectKey, Told>,
    /// How many lists have begun.
    lists: u64,
}

/// Of one object: hashes of its reasons, and how many more there were.
#[derive(Debug, Default)]
struct Told {
    reasons: Vec<u64>,
    more: usize,
    /// In which list it was seen, or after which.
    list: u64,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News<'r> {
    pub(super) reasons: Vec<&'r Reason>,
    /// How many more there are, if that is news.
    pub(super) more: usize,
}

/// Of so many objects it is known what was told; then it begins anew.
const MOST: usize = 10_000;

impl Unusable {
    /// What of an object's reasons was not told yet.
    pub(super) fn news<'r>(&mut self, key: &ObjectKey, reasons: &'r [Reason]) -> News<'r> {
        if reasons.is_empty() {
            self.forget(key);
            return News {
                reasons: Vec::new(),
                more: 0,
            };
        }
        let before = self.told.remove(key).unwrap_or_default();
        let shown = || reasons.iter().take(Findings::SHOWN);
        let more = reasons.len().saturating_sub(Findings::SHOWN);
        let news = News {
            reasons: shown()
                .filter(|reason| !before.reasons.contains(&hash(reason)))
                .collect(),
            more: if more == before.more { 0 } else { more },
        };
        if self.told.len() >= MOST {
            self.told.clear();
        }
        let told = Told {
            reasons: shown().map(hash).collect(),
            more,
            list: self.lists,
        };
        self.told.insert(key.clone(), told);
        news
    }

    /// A list begins: every object that exists comes again.
    pub(super) fn list_begins(&mut self) {
        self.lists += 1;
    }

    /// The list is complete: what did not come is gone.
    pub(super) fn list_ends(&mut self) {
        self.told.retain(|_, told| told.list == self.lists);
    }

    /// The object is gone, or well.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.told.remove(key);
    }
}

#[cfg(test)]
impl Unusable {
    /// Of how many objects something is known.
    pub(super) fn known(&self) -> usize {
        self.told.len()
    }
}

fn hash(reason: &Reason) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&reason.field, &reason.why).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(values: &[&str]) -> Vec<Reason> {
        let reason = |why: &&str| Reason {
            field: "spec.externalIPs[0]".to_owned(),
            why: (*why).to_owned(),
        };
        values.iter().map(reason).collect()
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey {
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_value_is_told_once_an_object_until_it_changes_or_goes() {
        let mut unusable = Unusable::default();
        let mut told = |name: &str, values: &[&str]| {
            let reasons = reasons(values);
            let news = unusable.news(&key(name), &reasons);
            let words: Vec<String> = news.reasons.iter().map(|one| one.why.clone()).collect();
            (words.join(" "), news.more)
        };
        let nothing = (String::new(), 0);
        assert_eq!(told("web", &["a", "b"]), ("a b".to_owned(), 0));
        assert_eq!(told("web", &["a", "b"]), nothing);
        assert_eq!(told("db", &["a"]), ("a".to_owned(), 0));
        assert_eq!(told("web", &["a", "c"]), ("c".to_owned(), 0));
        assert_eq!(told("web", &["a"]), nothing);
        assert_eq!(told("web", &[]), nothing);
        assert_eq!(told("web", &["a"]), ("a".to_owned(), 0));
        let many = ["1", "2", "3", "4", "5", "6", "7"];
        assert_eq!(told("many", &many), ("1 2 3 4 5".to_owned(), 2));
        assert_eq!(told("many", &many), nothing);
        assert_eq!(told("many", &many[..6]), (String::new(), 1));
    }

    #[test]
    fn what_a_whole_list_lacks_is_told_again_when_it_is_back() {
        let mut unusable = Unusable::default();
        let wrong = reasons(&["a"]);
        let told =
            |unusable: &mut Unusable, name| unusable.news(&key(name), &wrong).reasons.len() == 1;
        unusable.list_begins();
        assert!(told(&mut unusable, "stays") && told(&mut unusable, "goes"));
        unusable.list_ends();
        assert!(told(&mut unusable, "later"));
        // Nothing is known to be gone before a list is complete.
        for _ in 0..2 {
            unusable.list_begins();
            assert!(!told(&mut unusable, "stays") && !told(&mut unusable, "later"));
        }
        unusable.list_ends();
        assert!(!told(&mut unusable, "stays") && !told(&mut unusable, "later"));
        assert!(told(&mut unusable, "goes"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut unusable = Unusable::default();
        let wrong = reasons(&["a"]);
        for number in 0..=MOST {
            unusable.news(&key(&format!("s-{number}")), &wrong);
            assert!(unusable.told.len() <= MOST);
        }
        unusable.forget(&key(&format!("s-{MOST}")));
        assert!(unusable.told.is_empty());
    }
}
