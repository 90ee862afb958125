//! Remedies for what is known once Pods were read. The agent knows no selectors: what it advises holds with one and without.

use daymark_node::ask::wire::{Cause, Explained};

use super::pods::{Made, Pods};

/// Makes the remedies fit.
pub(super) fn fit(explained: &mut Explained, pods: &Pods) {
    let of_places = explained.answers.iter_mut().flat_map(|a| &mut a.causes);
    for cause in explained.cause.iter_mut().chain(of_places) {
        if let Some(remedy) = remedy(&cause.code, pods.made) {
            remedy.clone_into(&mut cause.remedy);
        }
    }
}

/// Whether what the Pods say helps with a cause.
pub(super) fn ask_for_pods(cause: &Cause) -> bool {
    OF_PODS.contains(&cause.code.as_str())
}

const OF_PODS: [&str; 4] = ["no-slices", "no-endpoints", "port-not-named", "none-ready"];

/// A better one, if there is one.
fn remedy(code: &str, made: Made) -> Option<&'static str> {
    Some(match (code, made) {
        ("no-slices", Made::ByHand) => {
            "create an EndpointSlice with the label kubernetes.io/service-name, or give the Service a selector"
        }
        ("no-slices", Made::BySelector) => {
            "is a controller for EndpointSlices running (daymark controller, kube-controller-manager)?"
        }
        ("no-endpoints", Made::ByHand) => "put endpoints into the EndpointSlices",
        ("no-endpoints", Made::BySelector) => {
            "below stands what the selector comes to, or what keeps its Pods from being endpoints: mend that"
        }
        ("port-not-named", Made::ByHand) => {
            "ports[].name of the EndpointSlice must be spec.ports[].name of the Service, and the protocols the same"
        }
        ("port-not-named", Made::BySelector) => {
            "spec.ports[].targetPort must be a number, or the name of a container's port of that protocol"
        }
        _ => return None,
    })
}
