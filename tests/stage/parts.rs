//! What every API server in memory is made of.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http_body::Frame;
use serde_json::{Value, json};

/// A body that comes in pieces.
pub struct Flow(pub BoxStream<'static, io::Result<Bytes>>);

impl http_body::Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_next_unpin(cx).map(|next| next.map(|piece| piece.map(Frame::data)))
    }
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in fields {
        if change.is_null() {
            target.as_object_mut().into_iter().for_each(|t| drop(t.remove(key)));
        } else {
            merge(&mut target[key], change);
        }
    }
}
