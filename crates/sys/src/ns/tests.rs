use std::io;

use super::*;

#[test]
fn the_setting_that_forbids_user_namespaces_is_named() {
    let check = |settings: &[(&str, u64)], expected: Forbidden| {
        let read = |name: &str| {
            settings
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        assert_eq!(forbidden_by(read), expected, "{settings:?}");
    };
    check(
        &[
            ("kernel.unprivileged_userns_clone", 0),
            ("user.max_user_namespaces", 0),
        ],
        Forbidden::UnprivilegedClone,
    );
    check(
        &[("user.max_user_namespaces", 0)],
        Forbidden::Limit { limit: 0 },
    );
    check(
        &[
            ("user.max_user_namespaces", 100),
            ("kernel.apparmor_restrict_unprivileged_userns", 1),
        ],
        Forbidden::AppArmor,
    );
    check(
        &[
            ("kernel.unprivileged_userns_clone", 1),
            ("user.max_user_namespaces", 100),
        ],
        Forbidden::Filter,
    );
}

#[test]
fn every_reason_names_its_remedy() {
    for (reason, remedy) in [
        (
            Forbidden::UnprivilegedClone,
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            Forbidden::Limit { limit: 0 },
            "sysctl -w user.max_user_namespaces=",
        ),
        (
            Forbidden::AppArmor,
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (Forbidden::Filter, "--security-opt seccomp=unconfined"),
    ] {
        let shown = EnterError::Forbidden(reason).to_string();
        assert!(shown.contains(remedy), "{shown}");
    }
}

#[test]
fn a_socket_stays_in_the_namespace_it_was_made_in() {
    isolated_test(
        "ns::tests::a_socket_stays_in_the_namespace_it_was_made_in",
        || {
            let other = NetNs::create().unwrap();
            let home = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let away = other
                .within(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap())
                .unwrap();
            assert_ne!(home, away);
            assert_eq!(
                home,
                std::fs::read_link("/proc/thread-self/ns/net").unwrap()
            );
            assert_eq!(
                away,
                other
                    .run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap())
                    .unwrap()
            );
        },
    );
}

#[test]
fn a_panic_inside_brings_the_thread_home() {
    isolated_test("ns::tests::a_panic_inside_brings_the_thread_home", || {
        let other = NetNs::create().unwrap();
        let home = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            other.within(|| panic!("inside"))
        }));
        assert!(panic.is_err());
        assert_eq!(
            home,
            std::fs::read_link("/proc/thread-self/ns/net").unwrap()
        );
    });
}

#[test]
fn a_file_that_is_no_namespace_is_refused_when_used() {
    let file = NetNs::open(Path::new("/proc/self/stat")).unwrap();
    let error = file.run(|| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn joining_a_process_that_is_gone_says_so() {
    // Above the largest pid that Linux hands out (4,194,304).
    assert!(matches!(
        join(5_000_000),
        Err(JoinError::Gone { pid: 5_000_000 })
    ));
}
