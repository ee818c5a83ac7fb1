//! What the `.proto` files say about messages, as tables: for whoever handles messages of any type, such as the JSON
//! gateway.
//!
//! Made by the build from the same descriptors as the types. Only proto3 messages and their enums are meant; that of a
//! map field is a repeated message of keys and values.

/// A message type.
#[derive(Debug)]
pub struct Message {
    /// With its package: `etcdserverpb.PutRequest`.
    pub name: &'static str,
    /// In the order of the file.
    pub fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    pub number: u32,
    /// As the file has it: `range_end`.
    pub name: &'static str,
    /// As JSON has it: `rangeEnd`.
    pub json_name: &'static str,
    pub kind: Kind,
    pub is_repeated: bool,
    /// The group of which at most one field is set, with its package and message.
    pub oneof: Option<&'static str>,
}

/// The type of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    String,
    Bytes,
    /// An index in [`ENUMS`].
    Enum(usize),
    /// An index in [`MESSAGES`].
    Message(usize),
    /// One that no message of etcd's API has.
    Other,
}

/// An enum type.
#[derive(Debug)]
pub struct Enum {
    pub name: &'static str,
    pub values: &'static [(&'static str, i32)],
}

/// A method of a service.
#[derive(Debug)]
pub struct Method {
    /// `/package.Service/Name`.
    pub path: &'static str,
    /// Indexes in [`MESSAGES`].
    pub input: usize,
    pub output: usize,
}

impl Kind {
    /// The word of the `.proto` language.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Uint32 => "uint32",
            Kind::Uint64 => "uint64",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Enum(_) => "enum",
            Kind::Message(_) => "message",
            Kind::Other => "other",
        }
    }
}

impl Enum {
    pub fn number_of(&self, name: &str) -> Option<i32> {
        let mut values = self.values.iter();
        values.find(|(own, _)| *own == name).map(|(_, n)| *n)
    }

    pub fn name_of(&self, number: i32) -> Option<&'static str> {
        let mut values = self.values.iter();
        values.find(|(_, own)| *own == number).map(|(n, _)| *n)
    }
}

/// The method with this path.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.path == path)
}

include!(concat!(env!("OUT_DIR"), "/schema.rs"));
