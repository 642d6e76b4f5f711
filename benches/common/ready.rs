//! A pipeline that ships, ready for work.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use runner::config::{self, DeliveryOverrides, EnvFile, Inputs};
use runner::engine::Plan;
use runner::engine::open::{self, Wanted};
use runner::engine::prepare::Shaped;
use runner::model::{Arrived, Map, Record, Reply, Request};
use runner::render::RunValues;

/// A compiled pipeline and the records of its input.
pub struct Ready {
    pub plan: Plan,
    pub records: Vec<Record>,
    pub run: RunValues,
}

impl Ready {
    pub fn new(named: &str) -> Self {
        let inputs = Inputs {
            cwd: Path::new(env!("CARGO_MANIFEST_DIR")),
            env_name: None,
            env_file: EnvFile::Off,
            vars: &[],
            environment: &|_| None,
            input: None,
            delivery: DeliveryOverrides::default(),
            state: None,
        };
        let (pipeline, _) = config::load_pipeline(named, &inputs).expect("the pipeline");
        let plan = open::open(pipeline, &Wanted::default()).expect("a plan");
        let mut source = plan.source().expect("its source");
        let mut records = Vec::new();
        while let Some(record) = source.next() {
            records.push(record.expect("readable input"));
        }
        let run = RunValues {
            id: "20261122T0214-3f9c".into(),
            started_at: "2026-11-22T02:14:00Z".parse().expect("a time"),
            pipeline: "bench".into(),
            ordinal: 0,
            step: 0,
        };
        Self { plan, records, run }
    }

    pub fn fields(&self) -> Vec<Map> {
        self.records.iter().filter_map(|record| record.fields.clone().ok()).collect()
    }

    pub fn shaped(&self) -> Vec<Shaped> {
        let preparer = &self.plan.preparer;
        self.records.iter().filter_map(|record| preparer.shape(record.clone(), &self.run).ok()).collect()
    }

    pub fn request(&self) -> Request {
        let mut shaped = self.shaped().swap_remove(0);
        let made = self.plan.preparer.request(&mut shaped, &self.run, 0);
        made.unwrap_or_else(|_| panic!("a request"))
    }
}

/// A reply as APIs send it to what was made.
pub fn reply() -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::DATE, HeaderValue::from_static("Sun, 22 Nov 2026 02:14:00 GMT"));
    headers.insert("x-request-id", HeaderValue::from_static("4d5c0e5e-7d0a-4c3f"));
    let body = br#"{"id":"1f0c2d3e-0000-4000-8000-000000000001","created_time":"2026-01-01T00:00:00.000Z","first_name":"Amina"}"#;
    Reply::Arrived(Arrived {
        status: StatusCode::OK,
        headers,
        body: Bytes::from_static(body),
        complete: true,
    })
}
