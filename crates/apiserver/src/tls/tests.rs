use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Kubeconfig, Pki, PkiError, Role, listen};

#[test]
fn the_ca_is_kept_and_its_key_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let first = Pki::open(&folder.path().join("pki")).unwrap();
    let second = Pki::open(&folder.path().join("pki")).unwrap();
    assert_eq!(first.certificate(), second.certificate());
    let mode = fs::metadata(folder.path().join("pki/ca.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_damaged_ca_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    Pki::open(folder.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    Pki::open(other.path()).unwrap();
    fs::copy(other.path().join("ca.key"), folder.path().join("ca.key")).unwrap();
    let error = Pki::open(folder.path()).err().unwrap();
    assert!(
        matches!(error, PkiError::Damaged { .. }) && error.to_string().contains("not the key"),
        "{error}"
    );
    fs::write(folder.path().join("ca.key"), "nonsense").unwrap();
    let error = Pki::open(folder.path()).err().unwrap().to_string();
    assert!(
        error.contains("ca.key") && error.contains("remove"),
        "{error}"
    );
    assert_eq!(
        fs::read_to_string(folder.path().join("ca.key")).unwrap(),
        "nonsense"
    );
}

#[test]
fn a_client_certificate_names_user_and_groups() {
    let pki = Pki::ephemeral().unwrap();
    for role in [
        Role::Admin,
        Role::Controller,
        Role::Agent("n1".to_owned()),
        Role::Kubelet("n1".to_owned()),
    ] {
        let client = pki.client(role.user()).unwrap();
        let der = CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
        assert_eq!(super::serve::user(&der), Some(role.user()));
    }
}

#[test]
fn a_kubeconfig_is_private_and_readable_by_kube() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::ephemeral().unwrap();
    let client = pki.client(Role::Admin.user()).unwrap();
    let config = Kubeconfig::new(&pki, &client, "daymark", "https://127.0.0.1:6443");
    let path = folder.path().join("kubeconfig");
    config.write(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let read = kube::config::Kubeconfig::read_from(&path).unwrap();
    assert_eq!(read.current_context.as_deref(), Some("daymark"));
    let error = config
        .write(&folder.path().join("no/such/folder"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no/such/folder") && error.contains("--kubeconfig"),
        "{error}"
    );
}

#[test]
fn a_taken_port_is_named_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = listen(address).unwrap_err().to_string();
    assert!(
        error.contains(&address.to_string()) && error.contains("--listen"),
        "{error}"
    );
}
