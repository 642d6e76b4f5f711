//! A far side that speaks TLS with a certificate of the test's choice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{WantsServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::{ConfigBuilder, RootCertStore, ServerConfig};

/// An authority of the test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A server certificate with its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

/// The far side; it ends when dropped.
pub struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        // Two authorities of one name would be taken for one whose signature is wrong.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name; `expired` is one of 2020.
    pub fn certify(&self, name: &str, expired: bool) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = if expired { date_time_ymd(2020, 1, 1) } else { date_time_ymd(2100, 1, 1) };
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        }
    }
}

impl Identity {
    /// Certificate and key as PEM.
    pub fn to_pem(&self) -> (String, String) {
        let pem = |word: &str, der: &[u8]| {
            let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
            format!("-----BEGIN {word}-----\n{text}\n-----END {word}-----\n")
        };
        (pem("CERTIFICATE", &self.certificate), pem("PRIVATE KEY", self.key.secret_pkcs8_der()))
    }
}

impl Server {
    /// Answers every request with 200 and counts it.
    pub fn start(identity: Identity) -> Self {
        Self::by(ServerConfig::builder().with_no_client_auth(), identity)
    }

    /// The same for those who show a certificate of an authority.
    pub fn demanding(identity: Identity, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).expect("an authority");
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
        Self::by(ServerConfig::builder().with_client_cert_verifier(verifier), identity)
    }

    fn by(builder: ConfigBuilder<ServerConfig, WantsServerCert>, identity: Identity) -> Self {
        let config = builder
            .with_single_cert(vec![identity.certificate], PrivateKeyDer::from(identity.key))
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let (stop, mut stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    let stream = tokio::select! {
                        _ = &mut stopped => return,
                        accepted = listener.accept() => accepted.expect("a connection").0,
                    };
                    let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                    tokio::spawn(async move {
                        let mut buffer = [0; 4096];
                        let mut stream = match acceptor.accept(stream).into_fallible().await {
                            Ok(stream) => stream,
                            Err((_, mut stream)) => {
                                // What the client has sent is taken, so that it gets to read the alert.
                                let _ = stream.shutdown().await;
                                while let Ok(1..) = stream.read(&mut buffer).await {}
                                return;
                            }
                        };
                        while let Ok(1..) = stream.read(&mut buffer).await {
                            count.fetch_add(1, Ordering::SeqCst);
                            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                            if stream.write_all(reply).await.is_err() || stream.flush().await.is_err() {
                                return;
                            }
                        }
                    });
                }
            });
        });
        Self { address, requests, stop: Some(stop), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join);
    }
}
