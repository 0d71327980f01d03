//! StorageNodes and the addresses of nodes.

use serde_json::json;

use super::bench::{Bench, JVS, NAMESPACE, condition};

#[tokio::test]
async fn every_node_with_a_daemon_is_told() {
    let bench = Bench::new(&["a", "b"]).await;
    bench.double.with("b", |node| node.is_up = false);
    let operator = bench.start();
    bench
        .until("both are told", |bench| {
            let ready = |node: &str| {
                bench
                    .server
                    .get(JVS, "StorageNode", "", node)
                    .map(|object| condition(&object, "Ready").0)
            };
            ready("a").as_deref() == Some("True") && ready("b").as_deref() == Some("False")
        })
        .await;
    let a = bench.server.get(JVS, "StorageNode", "", "a").unwrap();
    assert_eq!(a["status"]["capacity"]["total"], "1Ti");
    assert_eq!(a["status"]["address"], "10.1.0.1:7070");
    assert_eq!(a["status"]["nodeID"], "data-a");
    let b = bench.server.get(JVS, "StorageNode", "", "b").unwrap();
    assert!(condition(&b, "Ready").2.contains("connection refused"));
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_daemon_that_says_it_is_of_another_node_gets_nothing() {
    let bench = Bench::new(&["a"]).await;
    bench
        .double
        .with("a", |node| node.says_node = Some("z".to_owned()));
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.reason("Workspace", "data", "NoNodeFits").await;
    assert!(bench.double.workspace_names().is_empty());
    bench
        .until("it is told", |bench| {
            let node = bench.server.get(JVS, "StorageNode", "", "a");
            node.is_some_and(|node| condition(&node, "Ready").1 == "WrongNode")
        })
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn the_address_of_a_node_outlives_its_daemon() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.ready("Workspace", "data").await;
    let slices = |bench: &Bench| {
        bench
            .server
            .list("discovery.k8s.io/v1", "EndpointSlice", Some(NAMESPACE))
    };
    assert_eq!(slices(&bench)[0]["endpoints"][0]["addresses"][0], "10.1.0.1");
    let ip = bench.server.list("v1", "Service", Some(NAMESPACE))[0]["spec"]["clusterIP"].clone();
    let address = bench.double.with("a", |node| node.address.take());
    operator.handle.look_at_everything();
    bench
        .until("it leads nowhere", |bench| {
            slices(bench)[0]["endpoints"].as_array().is_none_or(Vec::is_empty)
        })
        .await;
    bench.double.with("a", |node| {
        node.address = address.map(|mut address| {
            address.ip = [10, 1, 0, 99].into();
            address
        });
    });
    operator.handle.look_at_everything();
    bench
        .until("it leads to the new one", |bench| {
            slices(bench)[0]["endpoints"][0]["addresses"][0] == "10.1.0.99"
        })
        .await;
    let services = bench.server.list("v1", "Service", Some(NAMESPACE));
    assert_eq!(services[0]["spec"]["clusterIP"], ip);
    operator.stop().await;
    bench.end().await;
}
