use super::*;

fn pace(last_group: usize, commit_ms: u64) -> Pace {
    Pace {
        last_group,
        commit: Duration::from_millis(commit_ms),
    }
}

#[test]
fn waiting_is_for_clients_that_were_answered_together_and_short() {
    for (name, pace, queued, expected_us) in [
        ("nothing is known", Pace::default(), 1, 0),
        ("one client alone", pace(1, 10), 1, 0),
        ("all are back", pace(8, 10), 8, 0),
        ("some are missing", pace(8, 10), 3, 1000),
        ("a fast disk", pace(8, 1), 3, 500),
        ("the group is full", pace(500, 10), GROUP_LIMIT, 0),
    ] {
        assert_eq!(
            pace.patience(queued),
            Duration::from_micros(expected_us),
            "{name}"
        );
    }
}

#[test]
fn a_revision_is_reserved_before_it_is_handed_out() {
    let mut revisions = Revisions::new(5, 5 + RESERVE);
    for _ in 0..10 * RESERVE {
        let revision = revisions.next();
        assert!(revision + 2 * GROUP_LIMIT as u64 <= revisions.reserved);
        revisions.used(revision);
        revisions.reserved = revisions.reservation();
    }
    assert!(revisions.release());
    assert_eq!(revisions.reservation(), 5 + 10 * RESERVE);
}
