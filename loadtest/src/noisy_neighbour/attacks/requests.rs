//! Requests in loops.

use futures_util::future::join_all;

use super::Scene;
use crate::publish::Http;

/// Has every client ask for this path, again as soon as it is answered.
pub(super) async fn loops(scene: &Scene, path: &str) -> anyhow::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let client = |_| {
        let request = &request;
        scene.again(move || async move {
            let mut http = Http::connect(&scene.server).await?;
            loop {
                http.request(request.as_bytes()).await?;
                scene.add(1);
            }
        })
    };
    join_all((0..scene.clients).map(client)).await;
    Ok(())
}
