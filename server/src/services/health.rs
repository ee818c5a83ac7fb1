//! grpc.health.v1: whether the server serves. As in etcd the health of the whole server, whose name is empty, is the only
//! one there is, and it is good for as long as anything is answered; a defragmentation does not change it.

use net::grpc::{Code, Status};
use proto::health::health_check_response::ServingStatus;
use proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};

use super::failure::{Failure, end};
use super::respond;
use crate::errors::FrontError;
use crate::shard::{End, ReplyTo, Shard, StreamReply};

/// The name of the whole server.
const WHOLE: &str = "";

pub(crate) fn check(_shard: &Shard, request: HealthCheckRequest, reply: ReplyTo) {
    reply.finish(match status(&request) {
        Some(status) => Ok(respond::message(&status)),
        None => Err(Status::new(Code::NotFound, "unknown service")),
    });
}

pub(crate) fn list(_shard: &Shard, _request: HealthListRequest, reply: ReplyTo) {
    let whole = HealthCheckRequest {
        service: WHOLE.to_owned(),
    };
    let statuses = status(&whole).map(|status| (whole.service, status));
    reply.finish(Ok(respond::message(&HealthListResponse {
        statuses: statuses.into_iter().collect(),
    })));
}

/// Tells the status once, since it does not change, and then waits for the client to leave.
pub(crate) fn watch(_shard: &Shard, request: HealthCheckRequest, reply: ReplyTo) {
    let status = status(&request).unwrap_or(of(ServingStatus::ServiceUnknown));
    driver::spawn(async move {
        let out = reply.into_stream();
        let told = tell(&out, &status).await;
        end(out, told);
    })
    .detach();
}

async fn tell(out: &StreamReply, status: &HealthCheckResponse) -> Result<(), Failure> {
    out.send(respond::message(status))?;
    Err(match out.ended().await {
        End::Stopping => Failure::Refused(FrontError::Stopped.status()),
        // What grpc-go's service says when its call is cancelled.
        End::Leaderless => Failure::Refused(Status::new(Code::Canceled, "Stream has ended.")),
        End::Gone | End::HalfClosed => Failure::Gone,
    })
}

fn status(request: &HealthCheckRequest) -> Option<HealthCheckResponse> {
    (request.service == WHOLE).then(|| of(ServingStatus::Serving))
}

fn of(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status as i32,
    }
}
