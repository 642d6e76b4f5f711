//! Credentials against software that others wrote: a token server, a server of AWS APIs, and the signer
//! of AWS's own library.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use http::header::AUTHORIZATION;
use runner::sandbox::{Options, PathPattern, Route, Rules, Sandbox};

use super::server::{Server, node_package, python_script};
use crate::world::{POST_THINGS, Run, World, things};

fn python(python: &Path, script: &str, input: &str) -> String {
    let mut child = Command::new(python)
        .args(["-c", script])
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "secret/key+example")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_token_server_gives_one_token_for_all_lanes() {
    let Some(package) = node_package("oauth2-mock-server") else { return };
    let program = package.join("../.bin/oauth2-mock-server");
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&program, &["-a", "127.0.0.1", "-p", "PORT"], folder.path());
    let mut rules = Rules::new(vec![Route::new(
        "post",
        http::Method::POST,
        PathPattern::parse("/things").expect("a path"),
    )]);
    rules.auth = Some(Box::new(|knock| {
        let token = knock.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        token
            .and_then(|token| token.strip_prefix("Bearer "))
            .is_some_and(|token| token.split('.').count() == 3)
    }));
    let far_side = Sandbox::start(rules, Options::default()).expect("it starts");
    for send in ["basic", "body"] {
        let yaml = format!(
            "connections:\n  local:\n    base_url: \"{}\"\n    id: me\n    secret: {{ env: CLIENT_SECRET }}\n    auth: {{ oauth2: {{ grant: client_credentials, token_url: \"{}/token\", client_id: id, client_secret: secret, scope: a b, send: {send} }} }}\n",
            far_side.url(),
            server.url()
        );
        let world = World::new().file("runner.yaml", yaml).pipeline(POST_THINGS, things(50));
        let mut command = world.command("apply p");
        let ended = command.env("CLIENT_SECRET", "client-secret-4711").output().expect("it runs");
        Run::of(ended, &world).exits(0).says("50 delivered");
    }
    let tokens: Vec<_> = far_side.journal().iter().map(|seen| seen.headers[AUTHORIZATION].clone()).collect();
    assert_eq!(tokens.len(), 100);
    for start in tokens.chunks(50) {
        assert!(start.iter().all(|token| *token == start[0]), "one token for each start");
    }
}

#[test]
fn a_server_of_aws_apis_takes_signed_messages() {
    let Some((interpreter, script)) = python_script("moto_server") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let script = script.to_string_lossy();
    let server = Server::start(&interpreter, &[&script, "-H", "127.0.0.1", "-p", "PORT"], folder.path());
    let client = format!("import boto3, sys\nsqs = boto3.client('sqs', endpoint_url='{}')\n", server.url());
    let url =
        python(&interpreter, &format!("{client}print(sqs.create_queue(QueueName='people')['QueueUrl'])"), "");
    assert!(url.trim().ends_with("/123456789012/people"), "{url}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut world = World::new();
    for path in ["templates/sqs/connector.yaml", "templates/sqs/send-message.yaml"] {
        world = world.file(path, std::fs::read(root.join(path)).expect("a file"));
    }
    let yaml = format!(
        "connections:\n  sqs:\n    connector: sqs\n    base_url: {}/123456789012\n    region: eu-central-1\n    account: \"123456789012\"\n    access_key: {{ env: AWS_ACCESS_KEY_ID }}\n    secret_key: {{ env: AWS_SECRET_ACCESS_KEY }}\n    session_token: {{ env: AWS_SESSION_TOKEN }}\n",
        server.url()
    );
    let pipeline = "connection: sqs\nendpoint: sqs/send-message\nsource: { file: data/things.csv }\nkey: '{{ record.id }}'\nparams: { queue: people, text: 'größer: {{ record.name }} & more' }\n";
    let world = world.file("runner.yaml", yaml).pipeline(pipeline, things(20));
    let apply = |arguments: &str, session: &str| {
        let mut command = world.command(arguments);
        command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secret/key+example");
        Run::of(command.env("AWS_SESSION_TOKEN", session).output().expect("it runs"), &world)
    };
    // Temporary credentials for some, and lasting ones for the rest.
    apply("apply p --limit 5", "session/token+example==").exits(0).says("5 delivered");
    apply("apply p", "").exits(0).says("20 delivered");
    apply("apply p", "").exits(0).says("nothing to do");
    assert!(world.outcomes("delivered.csv").contains("message_id"), "the id of each message is kept");
    let script = format!(
        "{client}url = sys.stdin.read().strip()\nseen = set()\nwhile True:\n    got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get('Messages', [])\n    if not got: break\n    for one in got:\n        seen.add(one['Body'])\n        sqs.delete_message(QueueUrl=url, ReceiptHandle=one['ReceiptHandle'])\nprint(len(seen), 'größer: thing 7 & more' in seen)"
    );
    assert_eq!(python(&interpreter, &script, &url).trim(), "20 True");
}

/// Signs each request anew with AWS's own library and says what differs.
const SIGN: &str = "\
import sys, json
from botocore.auth import SigV4Auth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
keys = Credentials('AKIDEXAMPLE', 'secret/key+example')
for line in sys.stdin:
    seen = json.loads(line)
    request = AWSRequest(method=seen['method'], url=seen['url'], data=seen['body'].encode(), headers=seen['headers'])
    request.context['timestamp'] = seen['headers']['x-amz-date']
    kind = S3SigV4Auth if seen['service'] == 's3' else SigV4Auth
    signer = kind(keys, seen['service'], 'eu-central-1')
    canonical = signer.canonical_request(request)
    print(signer.signature(signer.string_to_sign(request, canonical), request))
";

#[test]
fn signatures_are_those_of_the_library_of_aws() {
    let Some((interpreter, _)) = python_script("moto_server") else { return };
    for service in ["execute-api", "s3"] {
        let world = World::new();
        let yaml = format!(
            "connections:\n  local:\n    base_url: \"{}\"\n    id: {{ env: AWS_ACCESS_KEY_ID }}\n    key: {{ env: AWS_SECRET_ACCESS_KEY }}\n    headers: {{ X-Amz-Target: 'Some.Thing', X-Other: unsigned }}\n    auth: {{ aws_sigv4: {{ access_key: id, secret_key: key, region: eu-central-1, service: {service} }} }}\n",
            world.url()
        );
        let pipeline = "connection: local\nendpoint:\n  method: PUT\n  path: /things/{{ params.id }}\n  params: { id: { required: true } }\n  query: { name: '{{ record.name }}', b: '1', B: '~*' }\n  idempotency: natural\nsource: { file: data/things.csv }\n";
        let names = "id,name\na b,ö ü\nä+b,a+b&c=d\n~(x)!,'*'\nx.y-z_,/\n";
        let world = world.file("runner.yaml", yaml).pipeline(pipeline, names);
        let mut command = world.command("apply p");
        command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "secret/key+example");
        Run::of(command.output().expect("it runs"), &world).exits(0).says("4 delivered");
        let (mut input, mut ours) = (String::new(), Vec::new());
        for seen in world.seen() {
            let text = |name: &str| seen.headers[name].to_str().expect("text").to_owned();
            let fields = text("authorization");
            let field = |name: &str| {
                let (_, rest) = fields.split_once(&format!("{name}=")).expect("a field");
                rest.split(',').next().expect("a value").to_owned()
            };
            ours.push(field("Signature"));
            let headers: serde_json::Map<_, _> =
                field("SignedHeaders").split(';').map(|name| (name.to_owned(), text(name).into())).collect();
            let body = String::from_utf8(seen.body.to_vec()).expect("text");
            let request = serde_json::json!({
                "method": seen.method.as_str(), "url": format!("{}{}", world.url(), seen.path),
                "headers": headers, "body": body, "service": service,
            });
            input.extend([request.to_string().as_str(), "\n"]);
        }
        let theirs = python(&interpreter, SIGN, &input);
        assert_eq!(ours.len(), 4);
        assert_eq!(theirs.lines().collect::<Vec<_>>(), ours, "{service}: {input}");
    }
}
