//! Requests to the API, counted as client-go does: `rest_client_*`.
//! (kubernetes `staging/src/k8s.io/component-base/metrics/prometheus/restclient/metrics.go`.)

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tower::Service;

use crate::clock;

type Labels = Vec<(&'static str, String)>;

/// What was asked of the API, how it ended, and how long it took.
#[derive(Debug)]
pub(crate) struct Requests {
    registry: Registry,
    counts: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for Requests {
    fn default() -> Self {
        let mut registry = Registry::default();
        let counts = Family::default();
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register(
            "rest_client_requests",
            "Requests to the API by method, host and code of the answer; <error> if none came",
            counts.clone(),
        );
        registry.register_with_unit(
            "rest_client_request_duration",
            "From a request to the API to the head of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        Self {
            registry,
            counts,
            durations,
        }
    }
}

impl Requests {
    /// Lines for `/metrics`.
    pub(crate) fn families(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text.truncate(text.strip_suffix("# EOF\n").unwrap_or(&text).len());
        text
    }

    fn answered(&self, (verb, host): (String, String), code: String, seconds: f64) {
        let of = vec![
            ("code", code),
            ("host", host.clone()),
            ("method", verb.clone()),
        ];
        self.counts.get_or_create(&of).inc();
        let of = vec![("host", host), ("verb", verb)];
        self.durations.get_or_create(&of).observe(seconds);
    }
}

/// client-go's bounds, seconds.
fn histogram() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
    ])
}

/// A client whose requests are counted.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    pub(crate) client: S,
    /// Where; nowhere if nobody asks for them.
    pub(crate) requests: Option<Arc<Requests>>,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let host = request.uri().authority().map(ToString::to_string);
        let of = (request.method().to_string(), host.unwrap_or_default());
        let requests = self.requests.clone();
        let begun = clock::now();
        let answer = self.client.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(requests) = requests {
                let code = match &answer {
                    Ok(answer) => answer.status().as_str().to_owned(),
                    Err(_) => "<error>".to_owned(),
                };
                requests.answered(of, code, (clock::now() - begun).as_secs_f64());
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_what_came_back() {
        let requests = Arc::new(Requests::default());
        let answer = |request: Request<()>| async move {
            match request.uri().path() {
                "/away" => Err("away"),
                _ => Ok(Response::builder().status(403).body(()).unwrap()),
            }
        };
        let mut client = Counted {
            client: tower::service_fn(answer),
            requests: Some(Arc::clone(&requests)),
        };
        for path in ["/", "/", "/away"] {
            let uri = format!("https://192.0.2.1:6443{path}");
            let request = Request::get(uri).body(()).unwrap();
            let _ = client.call(request).await;
        }
        let text = requests.families();
        for line in [
            r#"rest_client_requests_total{code="403",host="192.0.2.1:6443",method="GET"} 2"#,
            r#"rest_client_requests_total{code="<error>",host="192.0.2.1:6443",method="GET"} 1"#,
            r#"rest_client_request_duration_seconds_count{host="192.0.2.1:6443",verb="GET"} 3"#,
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(!text.contains("# EOF"), "{text}");
        // Without somebody who counts the answer is the same.
        let quiet = |_: Request<()>| async { Ok::<_, Infallible>(Response::new(7)) };
        let mut quiet = Counted {
            client: tower::service_fn(quiet),
            requests: None,
        };
        assert_eq!(*quiet.call(Request::new(())).await.unwrap().body(), 7);
    }
}
