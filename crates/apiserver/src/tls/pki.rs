//! The cluster's own CA and the certificates it issues.
//!
//! A client is who its certificate says: the common name is the user, the organizations are the groups. The serving
//! certificate is made anew at every start; the CA lives in two files of the data directory.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::{Kubeconfig, write_private};
use crate::clock;
use crate::registry::User;

/// Years that the CA is valid.
const CA_YEARS: i16 = 10;
/// Years that other certificates are valid: each start of the server issues its own anew.
const LEAF_YEARS: i16 = 2;

const CA_NAME: &str = "daymark-ca";

/// Why there is no CA, or no certificate.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file of the CA cannot be read or written.
    #[error("{path}: {doing} the CA: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the file system said.
        source: io::Error,
    },
    /// A file of the CA is damaged, or half of it is missing.
    #[error(
        "{path}: the CA cannot be used: {why}: restore it, or remove ca.crt and ca.key to start with a new CA (every \
         kubeconfig must then be issued again)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate was not made.
    #[error("certificate for {subject}: {why}")]
    Issue {
        /// Whom it was for.
        subject: String,
        /// What went wrong.
        why: String,
    },
}

/// The CA.
pub struct Pki {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A client's certificate and key, in PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Whose they are.
    pub user: User,
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// The users that the parts of a cluster are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// May do everything.
    Admin,
    /// Reads everything but Secrets.
    Viewer,
    /// The controllers.
    Controller,
    /// The agent (proxy, DNS, announcer) of the named node.
    Agent(String),
    /// The kubelet of the named node.
    Kubelet(String),
}

impl Role {
    /// The user of that role.
    pub fn user(&self) -> User {
        let (name, group) = match self {
            Self::Admin => ("daymark:admin".to_owned(), "system:masters"),
            Self::Viewer => ("daymark:viewer".to_owned(), "daymark:viewers"),
            Self::Controller => ("daymark:controller".to_owned(), "daymark:controllers"),
            Self::Agent(node) => (format!("daymark:agent:{node}"), "daymark:agents"),
            Self::Kubelet(node) => (format!("system:node:{node}"), "system:nodes"),
        };
        User {
            name,
            groups: vec![group.to_owned()],
        }
    }
}

impl Pki {
    /// A CA that ends with the process.
    ///
    /// # Errors
    /// [`PkiError::Issue`] if the system gives no random numbers.
    pub fn ephemeral() -> Result<Self, PkiError> {
        Ok(Self::generate()?.0)
    }

    /// The CA in `ca.crt` and `ca.key` of a directory, made with it if it is not there.
    ///
    /// # Errors
    /// See [`PkiError`]. Files that are there are never overwritten.
    pub fn open(directory: &Path) -> Result<Self, PkiError> {
        let (certificate, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        if certificate.exists() || key.exists() {
            return Self::load(&certificate, &key);
        }
        let write = |path: &Path, text: &str| {
            write_private(path, text).map_err(|source| PkiError::File {
                path: path.to_owned(),
                doing: "writing",
                source,
            })
        };
        fs::create_dir_all(directory).map_err(|source| PkiError::File {
            path: directory.to_owned(),
            doing: "making the folder of",
            source,
        })?;
        let (pki, key_pem) = Self::generate()?;
        write(&key, &key_pem)?;
        write(&certificate, &pki.pem)?;
        Ok(pki)
    }

    fn generate() -> Result<(Self, String), PkiError> {
        let failed = |error: rcgen::Error| PkiError::Issue {
            subject: CA_NAME.to_owned(),
            why: error.to_string(),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let params = ca_params();
        let certificate = params.self_signed(&key).map_err(failed)?;
        let key_pem = key.serialize_pem();
        let pki = Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        };
        Ok((pki, key_pem))
    }

    fn load(certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| PkiError::File {
                path: path.to_owned(),
                doing: "reading",
                source,
            })
        };
        let (pem, key_pem) = (read(certificate)?, read(key)?);
        let damaged = |path: &Path, why: String| PkiError::Damaged {
            path: path.to_owned(),
            why,
        };
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| damaged(certificate, error.to_string()))?;
        let pair = KeyPair::from_pem(&key_pem).map_err(|error| damaged(key, error.to_string()))?;
        check_pair(&der, &pair).map_err(|why| damaged(certificate, why))?;
        Ok(Self {
            certificate: der,
            pem,
            issuer: Issuer::new(ca_params(), pair),
        })
    }

    /// The CA's certificate in PEM.
    pub fn certificate(&self) -> &str {
        &self.pem
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// [`PkiError::Issue`]
    pub fn client(&self, user: User) -> Result<ClientCertificate, PkiError> {
        let mut params = leaf_params(&user.name, ExtendedKeyUsagePurpose::ClientAuth);
        for group in &user.groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group.as_str());
        }
        let (certificate, key) = self.issue(&params, &user.name)?;
        Ok(ClientCertificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            user,
        })
    }

    /// A kubeconfig for a role, to a server at a URL such as `https://127.0.0.1:6443`. `cluster` names cluster and
    /// context.
    ///
    /// # Errors
    /// [`PkiError::Issue`]
    pub fn kubeconfig(
        &self,
        role: &Role,
        cluster: &str,
        server: &str,
    ) -> Result<Kubeconfig, PkiError> {
        let client = self.client(role.user())?;
        Ok(Kubeconfig::new(self, &client, cluster, server))
    }

    /// The TLS side of the server: a fresh serving certificate for these names and addresses and the usual ones, client
    /// certificates of this CA, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// [`PkiError::Issue`]
    pub fn server_config(&self, names: &[String]) -> Result<Arc<ServerConfig>, PkiError> {
        const SUBJECT: &str = "daymark-apiserver";
        let failed = |why: String| PkiError::Issue {
            subject: SUBJECT.to_owned(),
            why,
        };
        let mut params = leaf_params(SUBJECT, ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = alt_names(names).map_err(failed)?;
        let (certificate, key) = self.issue(&params, SUBJECT)?;
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .map_err(|error| failed(error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| failed(error.to_string()))?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| failed(error.to_owned()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(|error| failed(error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn issue(
        &self,
        params: &CertificateParams,
        subject: &str,
    ) -> Result<(rcgen::Certificate, KeyPair), PkiError> {
        let failed = |error: rcgen::Error| PkiError::Issue {
            subject: subject.to_owned(),
            why: error.to_string(),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate, key))
    }
}

/// The names under which every server is reached, and those given.
fn alt_names(further: &[String]) -> Result<Vec<SanType>, String> {
    const USUAL: [&str; 9] = [
        "localhost",
        "127.0.0.1",
        "::1",
        "10.96.0.1",
        "fd00:10:96::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let mut names: Vec<&str> = USUAL.to_vec();
    names.extend(further.iter().map(String::as_str));
    names.sort_unstable();
    names.dedup();
    let name = |text: &str| match text.parse::<IpAddr>() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => text
            .try_into()
            .map(SanType::DnsName)
            .map_err(|error| format!("name {text:?}: {error}")),
    };
    names.into_iter().map(name).collect()
}

fn ca_params() -> CertificateParams {
    let mut params = params(CA_NAME, CA_YEARS);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

fn leaf_params(subject: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = params(subject, LEAF_YEARS);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params
}

/// Valid from the day before, because clocks differ.
fn params(subject: &str, years: i16) -> CertificateParams {
    let mut params = CertificateParams::default();
    let today = today(clock::now());
    let day = |date: Date| {
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = day(today.yesterday().unwrap_or(today));
    // The 28th exists in every month of every year.
    let end =
        Date::new(today.year() + years, today.month(), today.day().min(28)).unwrap_or(Date::MAX);
    params.not_after = day(end);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

fn today(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

/// The key must be the certificate's.
fn check_pair(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<(), String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    match &*parsed.public_key().subject_public_key.data == key.public_key_raw() {
        true => Ok(()),
        false => Err("ca.key is not the key of ca.crt".to_owned()),
    }
}
