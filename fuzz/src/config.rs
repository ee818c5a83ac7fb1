//! The command line and the environment: any words and variables.
//!
//! ```text
//!  input = lines; "$NAME=value" is a variable, any other line a word of the command line
//! ```

use std::net::IpAddr;
use std::time::Duration;

use server::config::{Config, Environment, Startup, Url, go, read};

pub(crate) fn run(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let mut words = vec!["etcore".to_owned()];
    let mut variables = Vec::new();
    for line in text.lines() {
        match line.strip_prefix('$').and_then(|rest| rest.split_once('=')) {
            Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
            None => words.push(line.to_owned()),
        }
        check_values(line);
    }
    let environment = Environment {
        variables,
        default_host: || Ok(IpAddr::from([10, 1, 2, 3])),
    };
    let startup = read(&words, &environment);
    assert_eq!(startup, read(&words, &environment), "by chance");
    match startup {
        Startup::Run(config, _) => check_config(&config),
        Startup::Exit(exit) => {
            let says_something = !exit.stderr.is_empty() || !exit.notices.is_empty();
            let is_asked_for = exit.code == 0 && !exit.stdout.is_empty();
            assert!(says_something || is_asked_for, "an end without a word");
        }
    }
}

/// What a configuration promises.
fn check_config(config: &Config) {
    assert!(!config.listen_client_urls.is_empty());
    assert!(!config.listen_peer_urls.is_empty());
    for listen in config
        .listen_client_urls
        .iter()
        .chain(&config.listen_peer_urls)
    {
        check_url(&listen.url);
    }
    for url in config
        .advertise_client_urls
        .iter()
        .chain(&config.advertise_peer_urls)
    {
        check_url(url);
    }
    assert!(!config.heartbeat_interval.is_zero());
    assert!(config.election_timeout >= 5 * config.heartbeat_interval);
    assert!(config.election_timeout <= Duration::from_secs(50));
    assert!(config.election_ticks() >= 5);
    assert!(config.request_timeout() > Duration::from_secs(5));
    assert!(config.received_message_bytes_max() >= config.max_request_bytes);
    if names_addresses_only(config) {
        let _ = config.bootstrap();
    }
}

/// Whether the first start would ask no resolver.
fn names_addresses_only(config: &Config) -> bool {
    let is_address = |url: &Url| url.host().parse::<IpAddr>().is_ok();
    let advertised = config.advertise_peer_urls.iter().all(is_address);
    let cluster = config.initial_cluster.split(',').all(|member| {
        let (_, url) = member.split_once('=').unwrap_or(("", member));
        Url::parse(url).is_ok_and(|url| is_address(&url))
    });
    advertised && cluster
}

fn check_url(url: &Url) {
    let text = url.to_string();
    assert_eq!(Url::parse(&text).as_ref(), Ok(url), "{text:?}");
}

/// The syntaxes of values, which flags reach one by one.
fn check_values(text: &str) {
    if let Ok(url) = Url::parse(text) {
        check_url(&url);
    }
    if let Ok(urls) = Url::parse_list(text) {
        assert!(urls.iter().all(|url| Url::parse(&url.to_string()).is_ok()));
    }
    if let Ok(nanoseconds) = go::parse_duration(text)
        && let Ok(nanoseconds) = u64::try_from(nanoseconds)
    {
        let shown = go::format_duration(Duration::from_nanos(nanoseconds));
        let again = go::parse_duration(&shown).map(i64::cast_unsigned);
        assert_eq!(again, Ok(nanoseconds), "{shown}");
    }
    let (signed, unsigned) = (go::parse_signed(text), go::parse_unsigned(text));
    if let (Ok(signed), Ok(unsigned)) = (&signed, &unsigned) {
        assert_eq!(u64::try_from(*signed), Ok(*unsigned), "{text}");
    }
    let _ = go::parse_bool(text);
    let quoted = go::quote(text);
    assert!(quoted.starts_with('"') && quoted.ends_with('"') && quoted.len() >= 2);
}
