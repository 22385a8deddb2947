//! What people do.

mod checked;
mod explain;
mod keys;
mod look;
mod screen;
mod see;
mod steer;
mod words;

use serde_json::json;

use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually};

/// A shop whose custom service condemns the first pod, which is cut.
pub async fn with_one_cut(prefix: &str) -> (Shop, FakeSource, Controller, String) {
    let shop = Shop::open(prefix, 5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] = json!({"period": 300});
    shop.govern(json!({"breakers": [breaker]})).await;
    shop.cut_are(&[&bad]).await;
    let told = || async {
        let status = shop.status().await;
        status["fleet"]["cut"] == 1 && status["cut"][0]["pod"] == bad.as_str()
    };
    eventually("the status tells of it", SOON, told).await;
    (shop, source, controller, bad)
}
