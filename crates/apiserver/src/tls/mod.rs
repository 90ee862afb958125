//! Who is there: the server's own CA, certificates for itself and its clients, kubeconfigs, and the listeners.

mod files;
mod kubeconfig;
mod listen;
mod pki;
mod serve;

pub use files::write_private;
pub use kubeconfig::{Kubeconfig, KubeconfigError};
pub use listen::{ListenError, listen};
pub use pki::{ClientCertificate, Pki, PkiError, Role};

#[cfg(test)]
mod tests;
