//! The files a Pod finds under /etc, as a kubelet writes them.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;

/// The cluster's DNS, as the Pods of a node are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClusterDns<'a> {
    pub(super) servers: &'a [IpAddr],
    pub(super) domain: &'a str,
}

/// A Pod's `resolv.conf`; `None` when it keeps its node's (`dnsPolicy: Default`, or `hostNetwork` with `ClusterFirst`).
pub(super) fn resolv_conf(pod: &core::Pod, cluster: ClusterDns<'_>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let (mut servers, mut search, mut options) = match spec.dns_policy.as_deref() {
        Some("None") => (vec![], vec![], vec![]),
        Some("Default") => return None,
        Some("ClusterFirst") | None if spec.host_network == Some(true) => return None,
        _ => {
            let domain = cluster.domain;
            let search = vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.to_owned(),
            ];
            (
                cluster.servers.iter().map(ToString::to_string).collect(),
                search,
                vec!["ndots:5".to_owned()],
            )
        }
    };
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        search.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|known: &String| known.split(':').next() != Some(name));
            options.push(
                option
                    .value
                    .as_ref()
                    .map_or_else(|| name.clone(), |value| format!("{name}:{value}")),
            );
        }
    }
    let mut text: String = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    for (word, list) in [("search", search), ("options", options)] {
        if !list.is_empty() {
            text += &format!("{word} {}\n", list.join(" "));
        }
    }
    Some(text)
}

/// A Pod's `/etc/hosts`.
pub(super) fn hosts(pod: &core::Pod, addresses: &[IpAddr]) -> String {
    let mut text = String::from(crate::etc::LOCAL_HOSTS);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    for address in addresses {
        text += &format!("{address}\t{name}\n");
    }
    for alias in pod
        .spec
        .iter()
        .flat_map(|spec| spec.host_aliases.iter().flatten())
    {
        text += &format!(
            "{}\t{}\n",
            alias.ip,
            alias
                .hostnames
                .iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> core::Pod {
        let mut spec = spec;
        spec["containers"] = serde_json::json!([]);
        serde_json::from_value(
            serde_json::json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}),
        )
        .unwrap()
    }

    const DNS: ClusterDns<'_> = ClusterDns {
        servers: &[
            IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 10)),
            IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa)),
        ],
        domain: "cluster.local",
    };

    #[test]
    fn a_resolv_conf_has_the_kubelets_shape() {
        let text = resolv_conf(&pod(serde_json::json!({})), DNS).unwrap();
        assert_eq!(
            text,
            "nameserver 10.96.0.10\nnameserver fd00:10:96::a\n\
             search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
    }

    #[test]
    fn dns_policies_and_settings_are_kept() {
        let own = serde_json::json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"], "searches": ["a"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}});
        let expected = "nameserver 192.0.2.1\nsearch a\noptions ndots:2 rotate\n";
        assert_eq!(resolv_conf(&pod(own), DNS).unwrap(), expected);
        let more = serde_json::json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}});
        assert!(
            resolv_conf(&pod(more), DNS)
                .unwrap()
                .ends_with("\noptions ndots:2\n")
        );
        assert_eq!(
            resolv_conf(&pod(serde_json::json!({"dnsPolicy": "Default"})), DNS),
            None
        );
        assert_eq!(
            resolv_conf(&pod(serde_json::json!({"hostNetwork": true})), DNS),
            None
        );
        let both = serde_json::json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
        assert!(resolv_conf(&pod(both), DNS).is_some());
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let pod =
            pod(serde_json::json!({"hostAliases": [{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]}));
        let text = hosts(
            &pod,
            &["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
        );
        assert!(
            text.ends_with("10.244.1.2\tweb-0\nfd00::2\tweb-0\n192.0.2.9\ta b\n"),
            "{text}"
        );
    }
}
