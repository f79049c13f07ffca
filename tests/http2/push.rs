//! The page's assets before they are asked for: pushed, hinted at, or neither.

use h2::client::Builder;

use crate::support::http2::{Http2, reply, request, visit};
use crate::support::patiently;
use crate::support::server::TestServer;

const LINK: &str = "<assets/style.css>; rel=preload; as=style, <assets/app.js>; rel=preload; as=script; crossorigin";

/// The `Link` of an early hint, if one comes before the answer.
async fn hint(http2: &mut Http2, path: &str) -> Option<String> {
    let mut response = http2.send(request("GET", path), None).await;
    let hint = patiently(std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    let hint = hint.map(|hint| hint.unwrap());
    assert_eq!(patiently(response).await.unwrap().status(), 200);
    hint.map(|hint| {
        assert_eq!(hint.status(), 103);
        hint.headers()["link"].to_str().unwrap().to_owned()
    })
}

#[tokio::test]
async fn a_client_that_allows_it_is_pushed_what_the_page_needs_once() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut http2 = Http2::with(server.address, &Builder::new()).await;
    let (page, pushed) = visit(&mut http2, request("GET", "/?utm=1")).await;
    assert_eq!(page.text, server.get("/").await.text);
    let cookie = "assetspushed=1; Max-Age=3600; Path=/; HttpOnly; SameSite=Lax";
    assert_eq!(page.header("set-cookie"), cookie);
    let paths: Vec<&str> = pushed.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/assets/style.css", "/assets/app.js"]);
    for (path, pushed) in &pushed {
        let asked = server.get(path).await;
        assert_eq!((pushed.status, &pushed.text), (asked.status, &asked.text));
        assert_eq!(pushed.header("content-type"), asked.header("content-type"));
        assert_eq!(pushed.header("cache-control"), "max-age=3600");
    }
    server.until_metric("rowcast_http2_pushes_total", 2).await;

    let mut again = request("GET", "/");
    again.headers_mut().insert("cookie", "theme=dark".parse().unwrap());
    again.headers_mut().append("cookie", "assetspushed=1".parse().unwrap());
    let (page, pushed) = visit(&mut http2, again).await;
    assert_eq!((page.status.as_u16(), page.header("set-cookie"), pushed.len()), (200, "", 0));

    for (method, path) in [("HEAD", "/"), ("GET", "/products"), ("GET", "/assets/app.js"), ("POST", "/")] {
        let (answer, pushed) = visit(&mut http2, request(method, path)).await;
        assert_eq!((answer.header("set-cookie"), pushed.len()), ("", 0), "{method} {path}");
    }
}

#[tokio::test]
async fn a_client_that_refuses_is_given_early_hints() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut refusing = Builder::new();
    refusing.enable_push(false);
    let mut without_room = Builder::new();
    without_room.max_concurrent_streams(1);
    for builder in [refusing, without_room] {
        let mut http2 = Http2::with(server.address, &builder).await;
        assert_eq!(hint(&mut http2, "/").await.as_deref(), Some(LINK));
        assert_eq!(hint(&mut http2, "/products").await, None);
        assert_eq!(http2.request("GET", "/", None).await.header("set-cookie"), "");
    }
    assert_eq!(server.metric("rowcast_http2_pushes_total").await, 0);
}

#[tokio::test]
async fn on_http_1_the_page_itself_has_the_hints() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let page = server.get("/").await;
    assert_eq!((page.header("link"), page.header("set-cookie")), (LINK, ""));
}

#[tokio::test]
async fn a_client_that_resets_what_is_pushed_has_the_page_all_the_same() {
    let server = TestServer::embedded(&["--cores", "1"]).await;
    let mut builder = Builder::new();
    builder.initial_window_size(100);
    let mut http2 = Http2::with(server.address, &builder).await;
    let mut response = http2.send(request("GET", "/"), None).await;
    let mut promises = response.push_promises();
    for _ in 0..2 {
        drop(patiently(promises.push_promise()).await.unwrap().unwrap());
    }
    assert!(reply(patiently(response).await.unwrap()).await.text.ends_with("</html>\n"));
    assert_eq!(http2.request("GET", "/healthz", None).await.status, 200);
}
