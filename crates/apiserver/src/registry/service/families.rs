//! IP families and their policy: what the client asked for, against what the cluster has.
//!
//! Source: `pkg/registry/core/service/storage/alloc.go` (`initIPFamilyFields`) of Kubernetes; KEP-563.

use serde_json::Value;

use super::validate::validate_cluster_ips;
use super::view::{NONE, Service, Type, family_of, set, set_cluster_ips};
use crate::registry::validate::ip::Family;
use crate::registry::validate::{FieldError, Path};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Settles `ipFamilyPolicy` and `ipFamilies`. `cluster` are the families of the cluster, the default one first.
///
/// The steps, in order:
/// 1. ExternalName has no families; an unchanged PreferDualStack stays as it is when the cluster gains or loses one;
/// 2. the policy: given, else the old one, else both for a headless Service without selector, else one;
/// 3. the form of the address fields;
/// 4. on update, SingleStack drops the second entry, any other policy refuses to lose it;
/// 5. families that follow from addresses;
/// 6. a headless Service without selector may have families that the cluster has not;
/// 7. what the cluster cannot do is refused; the rest is filled up.
///
/// # Errors
/// The first step with something wrong tells all that it found.
pub(super) fn settle(
    object: &mut Value,
    old: Option<&Value>,
    cluster: &[Family],
) -> Result<(), Vec<FieldError>> {
    let (service, before) = (Service::new(object), old.map(Service::new));
    if service.is(Type::ExternalName)
        || before.is_some_and(|before| keeps_preference(service, before))
    {
        return Ok(());
    }
    settle_policy(object, before);
    refuse(validate_cluster_ips(Service::new(object), before))?;
    let mut wrong = before
        .map(|before| shrink(object, before))
        .unwrap_or_default();
    wrong.extend(refuse_two_of_single(Service::new(object)));
    wrong.extend(infer_families(object, cluster));
    refuse(wrong)?;
    let service = Service::new(object);
    if service.cluster_ip() == NONE && !service.has_selector() {
        fill_up(object, cluster.first().copied(), &[Family::V4, Family::V6]);
        return Ok(());
    }
    refuse(refuse_unconfigured(service, cluster))?;
    fill_up(object, cluster.first().copied(), cluster);
    Ok(())
}

fn refuse(wrong: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn keeps_preference(service: Service<'_>, before: Service<'_>) -> bool {
    service.policy() == Some(PREFER)
        && before.policy() == Some(PREFER)
        && service.same_cluster_ips(before)
        && service.same_families(before)
}

fn settle_policy(object: &mut Value, before: Option<Service<'_>>) {
    let service = Service::new(object);
    if service.policy().is_some() {
        return;
    }
    let bare_headless = service.cluster_ip() == NONE && !service.has_selector();
    let policy = match before.and_then(Service::policy) {
        Some(policy) => policy.to_owned(),
        None if bare_headless => REQUIRE.to_owned(),
        None => SINGLE.to_owned(),
    };
    set(object, "ipFamilyPolicy", policy);
}

fn shrink(object: &mut Value, before: Service<'_>) -> Vec<FieldError> {
    let service = Service::new(object);
    if service.policy() != Some(SINGLE) {
        return refuse_shrinking(service, before);
    }
    let ips = service
        .cluster_ips()
        .first()
        .filter(|_| service.same_cluster_ips(before))
        .map(|ip| (*ip).to_owned());
    let family = service
        .families()
        .first()
        .filter(|_| service.same_families(before))
        .map(|f| (*f).to_owned());
    if let Some(ip) = ips {
        set_cluster_ips(object, &[&ip]);
    }
    if let Some(family) = family {
        set(object, "ipFamilies", vec![family]);
    }
    Vec::new()
}

fn refuse_shrinking(service: Service<'_>, before: Service<'_>) -> Vec<FieldError> {
    let path = Path::new("spec").child("ipFamilyPolicy");
    let policy = service.policy().unwrap_or_default();
    // Nothing given means "as before"; an entry that was there and is not any more is a loss.
    let lost = |new: usize, old: usize| new > 0 && new < old;
    let mut wrong = Vec::new();
    if lost(service.cluster_ips().len(), before.cluster_ips().len()) {
        wrong.push(FieldError::invalid(
            &path,
            policy,
            "must be 'SingleStack' to release the secondary cluster IP",
        ));
    }
    if lost(service.families().len(), before.families().len()) {
        wrong.push(FieldError::invalid(
            &path,
            policy,
            "must be 'SingleStack' to release the secondary IP family",
        ));
    }
    wrong
}

fn refuse_two_of_single(service: Service<'_>) -> Vec<FieldError> {
    if service.policy() != Some(SINGLE) {
        return Vec::new();
    }
    let path = Path::new("spec").child("ipFamilyPolicy");
    let rows = [
        (service.cluster_ips().len(), "cluster IPs"),
        (service.families().len(), "IP families"),
    ];
    let several = rows.iter().filter(|(count, _)| *count == 2);
    let why = |what: &str| {
        format!(
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
        )
    };
    several
        .map(|(_, what)| FieldError::invalid(&path, SINGLE, why(what)))
        .collect()
}

fn infer_families(object: &mut Value, cluster: &[Family]) -> Vec<FieldError> {
    let service = Service::new(object);
    let mut families: Vec<String> = service.families().into_iter().map(str::to_owned).collect();
    let mut wrong = Vec::new();
    let given = families.len();
    for (i, ip) in service
        .cluster_ips()
        .into_iter()
        .enumerate()
        .take_while(|(_, ip)| *ip != NONE)
        .skip(given)
    {
        let family = family_of(ip);
        if cluster.contains(&family) {
            families.push(family.as_str().to_owned());
        } else {
            let path = Path::new("spec").child("clusterIPs").index(i);
            let why = format!("{} is not configured on this cluster", family.as_str());
            wrong.push(FieldError::invalid(
                &path,
                service.spec["clusterIPs"].clone(),
                why,
            ));
        }
    }
    if families.len() > given {
        set(object, "ipFamilies", families);
    }
    wrong
}

fn refuse_unconfigured(service: Service<'_>, cluster: &[Family]) -> Vec<FieldError> {
    let path = Path::new("spec");
    let mut wrong = Vec::new();
    if service.policy() == Some(REQUIRE) && cluster.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        wrong.push(FieldError::invalid(
            &path.child("ipFamilyPolicy"),
            REQUIRE,
            why,
        ));
    }
    for (i, family) in service.families().into_iter().enumerate() {
        if !cluster.iter().any(|known| known.as_str() == family) {
            let path = path.child("ipFamilies").index(i);
            wrong.push(FieldError::invalid(
                &path,
                family,
                "not configured on this cluster",
            ));
        }
    }
    wrong
}

/// The default family if there is none, and the second one of `available` unless the policy is SingleStack.
fn fill_up(object: &mut Value, default: Option<Family>, available: &[Family]) {
    let service = Service::new(object);
    let given = service.families();
    let Some(first) = given
        .first()
        .and_then(|family| Family::parse(family))
        .or(default)
    else {
        return;
    };
    let second = match given.get(1) {
        Some(family) => Family::parse(family),
        None if service.policy() == Some(SINGLE) => None,
        None => Some(first.other()).filter(|family| available.contains(family)),
    };
    let families: Vec<&str> = [Some(first), second]
        .into_iter()
        .flatten()
        .map(Family::as_str)
        .collect();
    set(object, "ipFamilies", families);
}
