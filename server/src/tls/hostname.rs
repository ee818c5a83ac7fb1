//! Whether a certificate is for a host, by the rules of Go's `crypto/x509`.
//!
//! They let a star stand for one label before any others, where webpki wants two labels behind it, and compare what is
//! no host name letter by letter.

use std::net::IpAddr;

/// Whether a certificate with these addresses and names is for `host`.
pub(super) fn is_for(host: &str, addresses: &[String], names: &[String]) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    if let Some(address) = parse_address(bare.unwrap_or(host)) {
        let mut own = addresses.iter().filter_map(|text| parse_address(text));
        return own.any(|own| own == address);
    }
    let host = host.to_ascii_lowercase();
    let is_name = is_host_name(host.strip_suffix('.').unwrap_or(&host), false);
    names.iter().any(|name| {
        let name = name.to_ascii_lowercase();
        match is_name && is_host_name(&name, true) {
            true => matches(&name, &host),
            false => name == host && !matches!(&*name, "" | "."),
        }
    })
}

/// An address in its shortest form, so that one of IPv4 is the same however it is written.
fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// Label by label; a star at the beginning stands for any one.
fn matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let (mut pattern, mut host) = (pattern.split('.').enumerate(), host.split('.'));
    loop {
        match (pattern.next(), host.next()) {
            (Some((0, "*")), Some(_)) => {}
            (Some((_, wanted)), Some(label)) if wanted == label => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

fn is_host_name(text: &str, may_begin_with_star: bool) -> bool {
    let is_label = |(index, label): (usize, &str)| match label {
        "" => false,
        "*" => may_begin_with_star && index == 0,
        _ => !label.starts_with('-') && label.bytes().all(is_of_label),
    };
    text != "*" && text.split('.').enumerate().all(is_label)
}

fn is_of_label(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::is_for;

    #[test]
    fn hosts_are_those_of_go() {
        let cases: &[(&str, &str, bool)] = &[
            ("foo.example", "foo.example", true),
            ("Foo.Example.", "foo.EXAMPLE", true),
            ("foo.example", "*.example", true),
            ("a.foo.example", "*.example", false),
            ("example", "*.example", false),
            ("foo", "*", false),
            ("foo.example", "f*.example", false),
            ("foo.example", "foo.*", false),
            ("*.example", "*.example", true),
            ("*.example", "foo.example", false),
            ("a_b.example", "*.example", true),
            ("-a.example", "*.example", false),
            ("-a.example", "-a.example", true),
            ("", "", false),
            (".", ".", false),
            ("127.0.0.1", "127.0.0.1", false),
        ];
        for (host, name, expected) in cases {
            assert_eq!(
                is_for(host, &[], &[(*name).to_owned()]),
                *expected,
                "{host} {name}"
            );
        }
    }

    #[test]
    fn addresses_are_compared_as_such() {
        let own = ["10.0.0.1".to_owned(), "::1".to_owned()];
        for host in ["10.0.0.1", "::ffff:10.0.0.1", "[::1]", "0:0::1"] {
            assert!(is_for(host, &own, &[]), "{host}");
        }
        assert!(!is_for("10.0.0.2", &own, &["10.0.0.2".to_owned()]));
    }
}
