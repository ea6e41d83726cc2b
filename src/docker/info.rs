//! What `/info` says of a daemon and its swarm, read so that no odd field costs the others.

use serde_json::Value;

/// A daemon's description. A field that is absent or of another type is empty, zero or false.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Info {
    /// The daemon's id (`ID`).
    pub id: String,
    /// The host's name (`Name`).
    pub name: String,
    /// The engine's version (`ServerVersion`).
    pub server_version: String,
    /// The host's system, such as `Debian GNU/Linux 12` (`OperatingSystem`).
    pub operating_system: String,
    /// `linux` or `windows` (`OSType`).
    pub os_type: String,
    /// The machine, such as `x86_64` (`Architecture`).
    pub architecture: String,
    /// The storage driver or snapshotter (`Driver`).
    pub driver: String,
    /// Its properties (`DriverStatus`).
    pub driver_status: Vec<(String, String)>,
    /// The log driver (`LoggingDriver`).
    pub logging_driver: String,
    /// The daemon's clock as RFC 3339 (`SystemTime`).
    pub system_time: String,
    /// CPUs (`NCPU`).
    pub cpus: u64,
    /// Memory in bytes (`MemTotal`).
    pub memory_bytes: u64,
    /// Containers in any state (`Containers`).
    pub containers: u64,
    /// Images (`Images`).
    pub images: u64,
    /// Mirrors of Docker Hub (`RegistryConfig.Mirrors`).
    pub registry_mirrors: Vec<String>,
    /// The proxy for https (`HttpsProxy`), without its user and password.
    pub https_proxy: String,
    /// The daemon's labels (`Labels`).
    pub labels: Vec<String>,
    /// The swarm, as this node sees it (`Swarm`).
    pub swarm: SwarmInfo,
}

/// A node's part in its swarm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SwarmInfo {
    /// This node's id; empty outside a swarm (`NodeID`).
    pub node_id: String,
    /// This node's address within the swarm (`NodeAddr`).
    pub node_addr: String,
    /// `inactive`, `pending`, `active`, `error`, `locked` or a word to come (`LocalNodeState`).
    pub local_node_state: String,
    /// Whether this node is a manager that can be asked (`ControlAvailable`).
    pub control_available: bool,
    /// What keeps the node from its part (`Error`).
    pub error: String,
    /// Nodes in the swarm; zero unless asked on a manager (`Nodes`).
    pub nodes: u64,
    /// Managers in the swarm; zero unless asked on a manager (`Managers`).
    pub managers: u64,
    /// The swarm's id (`Cluster.ID`).
    pub cluster_id: String,
    /// Tasks kept per slot, the current one among them; None unless asked on a manager
    /// (`Cluster.Spec.Orchestration.TaskHistoryRetentionLimit`).
    pub task_history_retention_limit: Option<u64>,
}

impl Info {
    /// Reads what it can from the answer.
    pub fn from_value(value: &Value) -> Self {
        let swarm = &value["Swarm"];
        let cluster = &swarm["Cluster"];
        Self {
            id: text(&value["ID"]),
            name: text(&value["Name"]),
            server_version: text(&value["ServerVersion"]),
            operating_system: text(&value["OperatingSystem"]),
            os_type: text(&value["OSType"]),
            architecture: text(&value["Architecture"]),
            driver: text(&value["Driver"]),
            driver_status: list(&value["DriverStatus"]).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
            logging_driver: text(&value["LoggingDriver"]),
            system_time: text(&value["SystemTime"]),
            cpus: number(&value["NCPU"]),
            memory_bytes: number(&value["MemTotal"]),
            containers: number(&value["Containers"]),
            images: number(&value["Images"]),
            registry_mirrors: list(&value["RegistryConfig"]["Mirrors"]).map(text).collect(),
            https_proxy: without_credentials(&text(&value["HttpsProxy"])),
            labels: list(&value["Labels"]).map(text).collect(),
            swarm: SwarmInfo {
                node_id: text(&swarm["NodeID"]),
                node_addr: text(&swarm["NodeAddr"]),
                local_node_state: text(&swarm["LocalNodeState"]),
                control_available: swarm["ControlAvailable"].as_bool().unwrap_or(false),
                error: text(&swarm["Error"]),
                nodes: number(&swarm["Nodes"]),
                managers: number(&swarm["Managers"]),
                cluster_id: text(&cluster["ID"]),
                task_history_retention_limit: cluster["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"].as_u64(),
            },
        }
    }

    /// Whether images are kept by containerd, whose pulls send other requests than the classic store's.
    pub fn uses_containerd_images(&self) -> bool {
        self.driver_status
            .iter()
            .any(|(name, value)| name == "driver-type" && value.starts_with("io.containerd.snapshotter"))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        (None, Some(at)) => url[at + 1..].to_owned(),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_odd_field_costs_only_itself() {
        let info = Info::from_value(&json!({
            "ID": 7, "Name": "n1", "Containers": -1, "NCPU": "two", "DriverStatus": [["a"], "b", ["driver-type", "x"]],
            "Swarm": {"NodeID": "abc", "LocalNodeState": "hibernating", "ControlAvailable": true, "Cluster": null},
        }));
        assert_eq!((info.id.as_str(), info.name.as_str(), info.containers, info.cpus), ("", "n1", 0, 0));
        assert_eq!(info.driver_status.len(), 3);
        assert_eq!(info.swarm.local_node_state, "hibernating");
        assert!(info.swarm.control_available);
        assert_eq!(info.swarm.task_history_retention_limit, None);
        assert_eq!(Info::from_value(&json!({"Swarm": [1]})), Info::default());
    }

    #[test]
    fn the_containerd_image_store_is_recognised() {
        let with = |driver_type: &str| Info::from_value(&json!({"DriverStatus": [["driver-type", driver_type]]}));
        assert!(with("io.containerd.snapshotter.v1").uses_containerd_images());
        assert!(!with("overlay2").uses_containerd_images());
    }

    #[test]
    fn a_proxys_password_is_left_out() {
        assert_eq!(without_credentials("http://u:p@h:1/"), "http://h:1/");
        assert_eq!(without_credentials("http://h:1/"), "http://h:1/");
    }
}
