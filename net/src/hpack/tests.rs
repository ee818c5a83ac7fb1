//! Whole blocks: the vectors of RFC 7541 Appendix C, round trips, hostile input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs
        .iter()
        .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
        .collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, HpackError> {
    let mut out = Vec::new();
    let outcome = decoder.decode(block, usize::MAX, &mut |field| {
        out.push((field.name.to_vec(), field.value.to_vec()));
    })?;
    assert_eq!(outcome, Outcome::Complete);
    Ok(out)
}

fn encode(encoder: &mut Encoder, list: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in list {
        encoder.encode(name, value, Indexing::Incremental, &mut out);
    }
    out
}

fn requests() -> [Fields; 3] {
    [
        fields(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ]),
        fields(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
            ("cache-control", "no-cache"),
        ]),
        fields(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ]),
    ]
}

fn responses() -> [Fields; 3] {
    let date = |time| {
        [
            ("cache-control", "private"),
            ("date", time),
            ("location", "https://www.example.com"),
        ]
    };
    let first = date("Mon, 21 Oct 2013 20:13:21 GMT");
    let third = date("Mon, 21 Oct 2013 20:13:22 GMT");
    [
        fields(&[&[(":status", "302")][..], &first].concat()),
        fields(&[&[(":status", "307")][..], &first].concat()),
        fields(
            &[
                &[(":status", "200")][..],
                &third,
                &[
                    ("content-encoding", "gzip"),
                    (
                        "set-cookie",
                        "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                    ),
                ],
            ]
            .concat(),
        ),
    ]
}

#[test]
fn literals_of_appendix_c_2() {
    let cases = [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            ("custom-key", "custom-header"),
            false,
        ),
        (
            "040c 2f73 616d 706c 652f 7061 7468",
            (":path", "/sample/path"),
            false,
        ),
        (
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            ("password", "secret"),
            true,
        ),
        ("82", (":method", "GET"), false),
    ];
    for (hex, (name, value), is_sensitive) in cases {
        let mut seen = 0;
        let outcome = Decoder::new(4096).decode(&octets(hex), 4096, &mut |field| {
            assert_eq!(
                field,
                Field {
                    name: name.as_bytes(),
                    value: value.as_bytes(),
                    sensitive: is_sensitive
                }
            );
            seen += 1;
        });
        assert_eq!((outcome, seen), (Ok(Outcome::Complete), 1));
    }
}

#[test]
fn requests_of_appendix_c_3_and_c_4() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let mut decoder = Decoder::new(4096);
    for (hex, expected) in plain.iter().zip(requests()) {
        assert_eq!(decode(&mut decoder, &octets(hex)), Ok(expected));
    }
    let mut decoder = Decoder::new(4096);
    let mut encoder = Encoder::new();
    for (hex, expected) in huffman.iter().zip(requests()) {
        assert_eq!(encode(&mut encoder, &expected), octets(hex));
        assert_eq!(decode(&mut decoder, &octets(hex)), Ok(expected));
    }
}

#[test]
fn responses_of_appendix_c_5_and_c_6_with_evictions() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
         6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
         54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
         5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
         3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new(256);
        for (hex, expected) in blocks.iter().zip(responses()) {
            assert_eq!(decode(&mut decoder, &octets(hex)), Ok(expected));
        }
    }
    let mut encoder = Encoder::new();
    encoder.set_max_table_size(256);
    let [first, second, third] = responses();
    // The new table size leads the first block; the vectors take it for agreed beforehand.
    assert_eq!(
        encode(&mut encoder, &first),
        [octets("3fe1 01"), octets(huffman[0])].concat()
    );
    // "307" is as long in Huffman code as without, where we prefer none: the one difference to the vector.
    assert_eq!(encode(&mut encoder, &second), octets("4803 3330 37c1 c0bf"));
    assert_eq!(encode(&mut encoder, &third), octets(huffman[2]));
}

#[test]
fn a_list_too_long_keeps_the_tables_in_step() {
    let mut encoder = Encoder::new();
    let list = fields(&[("first", "1"), ("second", "2"), ("third", "3")]);
    let long = encode(&mut encoder, &list);
    let short = encode(&mut encoder, &list);
    assert_eq!(short.len(), 3);

    let mut decoder = Decoder::new(4096);
    let mut names = Vec::new();
    let size_of_two = 5 + 1 + 32 + 6 + 1 + 32;
    let outcome = decoder.decode(&long, size_of_two, &mut |field| {
        names.push(field.name.to_vec())
    });
    assert_eq!(outcome, Ok(Outcome::ListTooLong));
    assert_eq!(names, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(decode(&mut decoder, &short), Ok(list));
}

#[test]
fn indexes_out_of_range() {
    for (hex, index) in [("80", 0), ("be", 62), ("ff80 01", 255), ("7e 01 61", 62)] {
        let result = decode(&mut Decoder::new(4096), &octets(hex));
        assert_eq!(result, Err(HpackError::InvalidIndex(index)));
    }
}

#[test]
fn size_updates_are_checked() {
    let mut decoder = Decoder::new(4096);
    // To 0 and back to 4096, then a field.
    assert!(decode(&mut decoder, &octets("20 3fe1 1f 82")).is_ok());
    let too_large = HpackError::TableTooLarge {
        size: 4097,
        limit: 4096,
    };
    assert_eq!(decode(&mut decoder, &octets("3fe2 1f")), Err(too_large));
    let misplaced = Err(HpackError::MisplacedSizeUpdate);
    assert_eq!(decode(&mut Decoder::new(4096), &octets("82 20")), misplaced);

    let mut decoder = Decoder::new(4096);
    decoder.set_max_table_size(100);
    assert_eq!(
        decode(&mut decoder, &octets("82")),
        Err(HpackError::MissingSizeUpdate)
    );
    let mut decoder = Decoder::new(4096);
    decoder.set_max_table_size(100);
    assert!(decode(&mut decoder, &octets("3f45 82")).is_ok());
    assert!(decode(&mut decoder, &octets("82")).is_ok());
}

#[test]
fn the_encoder_announces_the_lowest_and_the_last_size() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new(4096);
    let list = fields(&[("name", "value")]);
    assert_eq!(
        decode(&mut decoder, &encode(&mut encoder, &list)),
        Ok(list.clone())
    );
    encoder.set_max_table_size(0);
    encoder.set_max_table_size(1 << 30);
    let block = encode(&mut encoder, &list);
    assert_eq!(block[..4], octets("20 3fe1 1f"));
    assert_eq!(decode(&mut decoder, &block), Ok(list.clone()));
    assert_eq!(encode(&mut encoder, &list).len(), 1);

    encoder.set_max_table_size(0);
    let block = encode(&mut encoder, &list);
    assert_eq!(decode(&mut decoder, &block), Ok(list.clone()));
    assert_eq!(
        encode(&mut encoder, &list),
        block[1..],
        "no table, no entry, no second update"
    );
}

#[test]
fn secrets_never_enter_a_table() {
    let mut encoder = Encoder::new();
    for _ in 0..2 {
        let mut block = Vec::new();
        encoder.encode(b"authorization", b"token", Indexing::Never, &mut block);
        assert_eq!(block[..2], [0x1f, 0x08]);
        let mut seen = 0;
        let outcome = Decoder::new(4096).decode(&block, 4096, &mut |field| {
            assert!(field.sensitive);
            assert_eq!(
                (field.name, field.value),
                (&b"authorization"[..], &b"token"[..])
            );
            seen += 1;
        });
        assert_eq!((outcome, seen), (Ok(Outcome::Complete), 1));
    }
    let mut block = Vec::new();
    encoder.encode(b":method", b"GET", Indexing::Never, &mut block);
    assert_eq!(
        block[0], 0x12,
        "a literal even where the static table has the field"
    );
}

#[test]
fn an_entry_may_evict_the_one_that_lends_its_name() {
    let mut decoder = Decoder::new(4096);
    // Table of 64: "abcd: 1" enters (37), then "<its name>: 22" needs 38, so the first must leave.
    let block = octets("3f21 40 04 61626364 01 31 7e 02 3232 be");
    let expected = fields(&[("abcd", "1"), ("abcd", "22"), ("abcd", "22")]);
    assert_eq!(decode(&mut decoder, &block), Ok(expected));
}

fn indexing() -> impl Strategy<Value = Indexing> {
    prop_oneof![
        4 => Just(Indexing::Incremental),
        1 => Just(Indexing::Without),
        1 => Just(Indexing::Never)
    ]
}

fn octet_string() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Few short strings, so that table entries are met again.
        4 => "[ab]{1,3}".prop_map(String::into_bytes),
        2 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..300),
        1 => Just(b":status".to_vec()),
    ]
}

/// A block, before which the table size may change.
type Block = (Option<u32>, Vec<(Vec<u8>, Vec<u8>, Indexing)>);

fn block() -> impl Strategy<Value = Block> {
    (
        proptest::option::weighted(0.3, 0u32..600),
        vec((octet_string(), octet_string(), indexing()), 0..12),
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(blocks in vec(block(), 1..12)) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::new(4096);
        for (size, list) in blocks {
            if let Some(size) = size {
                encoder.set_max_table_size(size);
            }
            let mut encoded = Vec::new();
            for (name, value, indexing) in &list {
                encoder.encode(name, value, *indexing, &mut encoded);
            }
            let mut decoded = Vec::new();
            let outcome = decoder.decode(&encoded, usize::MAX, &mut |field| {
                decoded.push((field.name.to_vec(), field.value.to_vec(), field.sensitive));
            });
            prop_assert_eq!(outcome, Ok(Outcome::Complete));
            let expected: Vec<_> = list
                .into_iter()
                .map(|(name, value, indexing)| (name, value, indexing == Indexing::Never))
                .collect();
            prop_assert_eq!(decoded, expected);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(blocks in vec(vec(any::<u8>(), 0..200), 1..8), limit in 0usize..5000) {
        let mut decoder = Decoder::new(4096);
        for block in blocks {
            let mut size = 0;
            let outcome = decoder.decode(&block, limit, &mut |field| size += field.size_bytes());
            prop_assert!(size <= limit);
            if outcome.is_err() {
                break;
            }
        }
    }

    /// Real blocks with one octet changed reach deeper than noise does.
    #[test]
    fn damaged_blocks_do_no_harm(list in vec((octet_string(), octet_string()), 1..12), at in any::<prop::sample::Index>(), octet: u8) {
        let mut block = encode(&mut Encoder::new(), &list);
        let at = at.index(block.len());
        block[at] = octet;
        let mut decoder = Decoder::new(4096);
        for _ in 0..2 {
            if decoder.decode(&block, 10_000, &mut |_| {}).is_err() {
                break;
            }
        }
    }
}
