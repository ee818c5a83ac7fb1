//! What the real etcd writes, read by us.

use prost_reflect::DynamicMessage;

use crate::dump::{Zeros, dump};
use crate::golden::{self, Vector, to_hex};
use crate::{POOL, types};

/// Messages in which etcd 3.7 writes the members of a oneof after all other fields, and we, like 3.6, by number:
/// `Compare.range_end` has a higher number than its oneof, and these hold a `Compare`.
const OTHER_ORDER: [&str; 4] = [
    "etcdserverpb.Compare",
    "etcdserverpb.InternalRaftRequest",
    "etcdserverpb.RequestOp",
    "etcdserverpb.TxnRequest",
];

/// Go writes the key and the value of a map entry even if they are zero, and we do not.
const SHORTER: &str = "grpc.health.v1.HealthListResponse";

#[test]
fn etcd_3_7_is_read_and_written_alike() {
    check("etcd-3.7.1.vectors", &OTHER_ORDER);
}

/// A 3.6 member writes the zeros of proto2 messages whether they were set or not.
#[test]
fn etcd_3_6_is_read_and_written_alike() {
    check("etcd-3.6.14.vectors", &[]);
}

fn check(file: &str, other_order: &[&str]) {
    let recoders = types::recoders();
    for vector in golden::vectors(file) {
        let recode = recoders[&vector.name];
        let written = recode(vector.bytes.clone())
            .unwrap_or_else(|error| panic!("{} {}: {error}", vector.name, vector.variant));
        let what = format!("{file}: {} {}", vector.name, vector.variant);
        check_fields(&what, &vector, &vector.bytes);
        check_fields(&what, &vector, &written);
        if other_order.contains(&vector.name.as_str()) {
            assert_eq!(written.len(), vector.bytes.len(), "{what}");
        } else if vector.name == SHORTER {
            assert!(written.len() <= vector.bytes.len(), "{what}");
        } else {
            assert_eq!(to_hex(&written), to_hex(&vector.bytes), "{what}");
        }
    }
}

fn check_fields(what: &str, vector: &Vector, bytes: &[u8]) {
    let descriptor = POOL
        .get_message_by_name(&vector.name)
        .expect("the schema test found it");
    let message =
        DynamicMessage::decode(descriptor, bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(dump(&message, Zeros::Kept), vector.dump, "{what}");
    assert_eq!(dump(&message, Zeros::Bare), vector.bare, "{what}, bare");
}
