//! The one table from errors to what a gRPC client sees: code and message.
//!
//! Clients compare the text to the letter (the Go client turns it back into a typed error), so every text
//! stands here once and nowhere else.
//!
//! ```text
//! engine: RequestError ──┐
//!                        ├─> FrontError (a row of etcd's catalogue) ──> Status { code, message }
//! the front of a call ───┘
//! no row fits ─────────────> Unknown (of a damaged database DataLoss) with the error's own text
//! ```
//!
//! Two rows carry a code that is not what etcd's own table intends, because etcd's server answers so:
//! `TooManyRequests` and `MemberNotEnoughStarted` are Unknown.
//!
//! Tested against the catalogue of the contract (`errors.md` §1), row by row.

mod catalogue;

use engine::mvcc::RequestError;
use net::grpc::{Code, Status};

pub use catalogue::FrontError;

use crate::config::go;
use crate::method;

impl FrontError {
    /// What the client sees.
    pub fn status(self) -> Status {
        Status::new(self.code(), self.message())
    }
}

impl From<FrontError> for Status {
    fn from(error: FrontError) -> Self {
        error.status()
    }
}

/// The status of a request that the state machine refused.
pub fn request_status(error: &RequestError) -> Status {
    match front_error(error) {
        Some(known) => known.status(),
        // etcd has no such answer: it does not look, or ends at once.
        None if matches!(error, RequestError::Damaged(_)) => {
            Status::new(Code::DataLoss, error.to_string())
        }
        None => Status::new(Code::Unknown, error.to_string()),
    }
}

/// The row of the catalogue that a refusal is, if there is one.
fn front_error(error: &RequestError) -> Option<FrontError> {
    Some(match error {
        RequestError::EmptyKey => FrontError::EmptyKey,
        RequestError::KeyNotFound => FrontError::KeyNotFound,
        RequestError::ValueProvided => FrontError::ValueProvided,
        RequestError::LeaseProvided => FrontError::LeaseProvided,
        RequestError::TooManyOps => FrontError::TooManyOps,
        RequestError::DuplicateKey => FrontError::DuplicateKey,
        RequestError::InvalidSortOption => FrontError::InvalidSortOption,
        RequestError::Compacted => FrontError::Compacted,
        RequestError::FutureRev => FrontError::FutureRev,
        RequestError::NoSpace => FrontError::NoSpace,
        RequestError::LeaseNotFound => FrontError::LeaseNotFound,
        RequestError::LeaseExist => FrontError::LeaseExist,
        RequestError::LeaseTtlTooLarge => FrontError::LeaseTtlTooLarge,
        RequestError::Corrupt => FrontError::Corrupt,
        _ => return None,
    })
}

/// The status for a path that is no method of etcd's, as grpc-go words it.
pub fn unknown_path(path: &str) -> Status {
    match method::split_path(path) {
        None => {
            let text = format!("malformed method name: {}", go::quote(path));
            Status::new(Code::Unimplemented, text)
        }
        Some((service, name)) if method::is_service(service) => unknown_method(service, name),
        Some((service, _)) => {
            Status::new(Code::Unimplemented, format!("unknown service {service}"))
        }
    }
}

/// The status for a method that its service does not have. A method of etcd's that etcore does not serve
/// yet is answered alike, so that clients take it for an older server.
pub fn unknown_method(service: &str, name: &str) -> Status {
    Status::new(
        Code::Unimplemented,
        format!("unknown method {name} for service {service}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::backend::Damage;
    use engine::types::Revision;

    fn seen(status: &Status) -> (Code, &str) {
        (status.code, &status.message)
    }

    #[test]
    fn refusals_of_the_state_machine_become_rows_of_the_catalogue() {
        let cases = [
            (RequestError::EmptyKey, FrontError::EmptyKey),
            (RequestError::KeyNotFound, FrontError::KeyNotFound),
            (RequestError::ValueProvided, FrontError::ValueProvided),
            (RequestError::LeaseProvided, FrontError::LeaseProvided),
            (RequestError::TooManyOps, FrontError::TooManyOps),
            (RequestError::DuplicateKey, FrontError::DuplicateKey),
            (
                RequestError::InvalidSortOption,
                FrontError::InvalidSortOption,
            ),
            (RequestError::Compacted, FrontError::Compacted),
            (RequestError::FutureRev, FrontError::FutureRev),
            (RequestError::NoSpace, FrontError::NoSpace),
            (RequestError::LeaseNotFound, FrontError::LeaseNotFound),
            (RequestError::LeaseExist, FrontError::LeaseExist),
            (RequestError::LeaseTtlTooLarge, FrontError::LeaseTtlTooLarge),
            (RequestError::Corrupt, FrontError::Corrupt),
        ];
        for (refusal, row) in cases {
            assert_eq!(request_status(&refusal), row.status(), "{refusal:?}");
        }
    }

    #[test]
    fn an_error_outside_the_catalogue_is_unknown_with_its_own_text() {
        let error = RequestError::Malformed { what: "lease id" };
        assert_eq!(
            seen(&request_status(&error)),
            (Code::Unknown, &*error.to_string())
        );
    }

    /// The member stops, but the reader who found it is told why.
    #[test]
    fn damage_is_a_loss_of_data() {
        let revision = Revision { main: 7, sub: 1 };
        let error = RequestError::from(Damage::BadPair { revision });
        let text = "database file: bucket key: the pair of revision 7_1 is malformed";
        assert_eq!(seen(&request_status(&error)), (Code::DataLoss, text));
    }

    #[test]
    fn strangers_get_the_texts_of_grpc_go() {
        let cases = [
            (
                "/etcdserverpb.KV/Foo",
                "unknown method Foo for service etcdserverpb.KV",
            ),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "unknown service grpc.reflection.v1.ServerReflection",
            ),
            ("/a/b/c", "unknown service a/b"),
            ("/nonsense", "malformed method name: \"/nonsense\""),
            (
                "etcdserverpb.KV/Put",
                "malformed method name: \"etcdserverpb.KV/Put\"",
            ),
            ("", "malformed method name: \"\""),
        ];
        for (path, text) in cases {
            assert_eq!(
                seen(&unknown_path(path)),
                (Code::Unimplemented, text),
                "{path}"
            );
        }
    }
}
