//! The v2 store's JSON inside a `.snap` file, which tells etcd 3.6 and older who the members are.
//!
//! ```text
//!  /0/members/<id>/raftAttributes     {"peerURLs":[..],"isLearner":true?}
//!  /0/members/<id>/attributes         {"name":"..","clientURLs":[..]}       once the member has published itself
//!  /0/removed_members/<id>            ""
//!  /0/version                         X.Y.0
//!  /1                                 nothing: v2 keys are gone since 3.6
//! ```
//! etcd writes the file by filling an empty v2 store and saving it whole. So the tree comes with the history of its making:
//! each write has an index (from 1, no raft index), stands in a ring of events, and is counted. A reader goes on
//! counting from there, so the ring is written as etcd would have left it, its empty places included.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::membership::Member;

/// Places in the ring of events.
const EVENT_COUNT_MAX: usize = 1000;

/// The moment by which v2 says "never".
const PERMANENT: &str = "0001-01-01T00:00:00Z";

/// The JSON for this membership. `cluster_version` is `X.Y.0`; ids of `removed` are of members that were in the
/// cluster once.
pub fn v2_store_json<'a>(
    members: impl IntoIterator<Item = &'a Member>,
    removed: impl IntoIterator<Item = u64>,
    cluster_version: Option<&str>,
) -> Bytes {
    let mut store = Store::default();
    for member in members {
        let path = format!("/0/members/{:x}", member.id);
        let raft_attributes = RaftAttributes {
            peer_urls: &member.peer_urls,
            is_learner: member.is_learner,
        };
        store.create(&format!("{path}/raftAttributes"), text(&raft_attributes));
        if !member.client_urls.is_empty() {
            let attributes = Attributes {
                name: &member.name,
                client_urls: &member.client_urls,
            };
            store.set(&format!("{path}/attributes"), text(&attributes));
        }
    }
    for id in removed {
        store.create(&format!("/0/removed_members/{id:x}"), String::new());
    }
    if let Some(version) = cluster_version {
        store.set("/0/version", version.to_owned());
    }
    text(&store.into_saved()).into()
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and maps by strings are always JSON")
}

#[derive(Serialize)]
struct RaftAttributes<'a> {
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
}

#[derive(Serialize)]
struct Attributes<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs")]
    client_urls: &'a [String],
}

/// A v2 store that is being filled.
struct Store {
    root: Node,
    events: Vec<Event>,
    create_count: u64,
    set_count: u64,
}

impl Default for Store {
    fn default() -> Self {
        let mut root = Node::folder("/".to_owned(), 0);
        for name in ["0", "1"] {
            root.child(name, 0);
        }
        Store {
            root,
            events: Vec::new(),
            create_count: 0,
            set_count: 0,
        }
    }
}

impl Store {
    fn create(&mut self, path: &str, value: String) {
        self.create_count += 1;
        self.write("create", path, value);
    }

    fn set(&mut self, path: &str, value: String) {
        self.set_count += 1;
        self.write("set", path, value);
    }

    fn write(&mut self, action: &'static str, path: &str, value: String) {
        let index = self.events.len() as u64 + 1;
        let mut node = &mut self.root;
        for name in path.split('/').skip(1) {
            node = node.child(name, index);
        }
        node.value.clone_from(&value);
        node.children = None;
        self.events.push(Event {
            action,
            node: EventNode {
                key: path.to_owned(),
                value,
                modified_index: index,
                created_index: index,
            },
        });
    }

    fn into_saved(self) -> Saved {
        let count = self.events.len();
        let mut ring: Vec<Option<Event>> = Vec::new();
        ring.resize_with(EVENT_COUNT_MAX, || None);
        for (number, event) in self.events.into_iter().enumerate() {
            ring[number % EVENT_COUNT_MAX] = Some(event);
        }
        let size = count.min(EVENT_COUNT_MAX);
        let front = (count - size) % EVENT_COUNT_MAX;
        Saved {
            root: self.root,
            watcher_hub: WatcherHub {
                event_history: EventHistory {
                    queue: Queue {
                        events: ring,
                        size,
                        front,
                        back: count % EVENT_COUNT_MAX,
                        capacity: EVENT_COUNT_MAX,
                    },
                    start_index: (count - size + size.min(1)) as u64,
                    last_index: count as u64,
                },
            },
            current_index: count as u64,
            stats: Stats {
                // etcd looks for members before it fills the store, in vain.
                gets_fail: 1,
                sets_success: self.set_count,
                create_success: self.create_count,
                ..Stats::default()
            },
            current_version: 2,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    root: Node,
    watcher_hub: WatcherHub,
    current_index: u64,
    stats: Stats,
    current_version: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    path: String,
    created_index: u64,
    modified_index: u64,
    expire_time: &'static str,
    value: String,
    /// `None`: a value and no folder.
    children: Option<BTreeMap<String, Node>>,
}

impl Node {
    fn folder(path: String, index: u64) -> Node {
        Node {
            path,
            created_index: index,
            modified_index: index,
            expire_time: PERMANENT,
            value: String::new(),
            children: Some(BTreeMap::new()),
        }
    }

    /// The child of this name, made by the write `index` if it is not there.
    fn child(&mut self, name: &str, index: u64) -> &mut Node {
        let path = match self.path.as_str() {
            "/" => format!("/{name}"),
            path => format!("{path}/{name}"),
        };
        let children = self.children.get_or_insert_default();
        let new = || Node::folder(path, index);
        children.entry(name.to_owned()).or_insert_with(new)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WatcherHub {
    event_history: EventHistory,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EventHistory {
    queue: Queue,
    start_index: u64,
    last_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Queue {
    /// As many as `capacity`: a reader writes its own events into the places.
    events: Vec<Option<Event>>,
    size: usize,
    front: usize,
    back: usize,
    capacity: usize,
}

#[derive(Serialize)]
struct Event {
    action: &'static str,
    node: EventNode,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventNode {
    key: String,
    value: String,
    modified_index: u64,
    created_index: u64,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    gets_success: u64,
    gets_fail: u64,
    sets_success: u64,
    sets_fail: u64,
    delete_success: u64,
    delete_fail: u64,
    update_success: u64,
    update_fail: u64,
    create_success: u64,
    create_fail: u64,
    compare_and_swap_success: u64,
    compare_and_swap_fail: u64,
    compare_and_delete_success: u64,
    compare_and_delete_fail: u64,
    expire_count: u64,
    watchers: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn parsed(json: &Bytes) -> Value {
        serde_json::from_slice(json).unwrap()
    }

    #[test]
    fn an_empty_membership_is_an_empty_store() {
        let json = parsed(&v2_store_json([], [], None));
        assert_eq!(
            json["Root"]["Children"]["0"]["Children"],
            Value::Object(Default::default())
        );
        assert_eq!(json["Root"]["Children"]["1"]["Path"], "/1");
        let history = &json["WatcherHub"]["EventHistory"];
        assert_eq!(
            (&history["StartIndex"], &history["LastIndex"]),
            (&0.into(), &0.into())
        );
        assert_eq!(history["Queue"]["Events"].as_array().unwrap().len(), 1000);
    }

    /// Who removes members for years fills the ring; the tree keeps all of them.
    #[test]
    fn the_ring_of_events_turns() {
        let json = parsed(&v2_store_json([], 1..=1003, Some("3.6.0")));
        let history = &json["WatcherHub"]["EventHistory"];
        let queue = &history["Queue"];
        assert_eq!(
            (&history["StartIndex"], &history["LastIndex"]),
            (&5.into(), &1004.into())
        );
        assert_eq!((&queue["Front"], &queue["Back"]), (&4.into(), &4.into()));
        assert_eq!(queue["Events"][4]["node"]["createdIndex"], 5);
        assert_eq!(queue["Events"][3]["node"]["key"], "/0/version");
        let removed = &json["Root"]["Children"]["0"]["Children"]["removed_members"]["Children"];
        assert_eq!(removed.as_object().unwrap().len(), 1003);
    }
}
