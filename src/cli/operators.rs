//! The admin endpoint of `fieldseal serve`.

use std::sync::Arc;

use super::Failure;
use crate::code::Code;
use crate::config::Config;
use crate::observe::Observers;
use crate::observe::admin::{Admin, AdminError, Sources};
use crate::proxy::{PolicyCell, Proxy};
use crate::tls::TlsCell;

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let code = match error {
            AdminError::Listen { .. } => Code::Listen,
            AdminError::Tls(_) => Code::CertificateUnusable,
            AdminError::Thread(_) => Code::Start,
            _ => Code::Configuration,
        };
        Self::coded(code, error)
    }
}

/// Starts it, if the configuration has one.
pub(super) async fn start(
    config: &Config,
    proxy: &Proxy,
    policy: &PolicyCell,
    tls: &TlsCell,
    observers: &Observers,
) -> Result<Option<Admin>, Failure> {
    let Some(of_admin) = &config.admin else {
        return Ok(None);
    };
    let sources = Sources {
        policy: Arc::clone(policy),
        tls: Arc::clone(tls),
        members: proxy.members(),
        observers: observers.clone(),
    };
    let admin = Admin::start(of_admin, sources).await?;
    let (address, tls) = (admin.address(), of_admin.identity.is_some());
    tracing::info!(address, tls, "the admin endpoint listens");
    if of_admin.insecure && !of_admin.listen.is_local() {
        tracing::warn!(
            "the admin endpoint can be reached by other machines, and `insecure = true` lets it be without TLS or token"
        );
    }
    Ok(Some(admin))
}
