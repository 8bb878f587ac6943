//! The small texts inside the JSON form: ids, variables, objects and outputs with their paths.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::path::RootPath;
use crate::thunk::{Object, OutputName};

/// An object as `V…` or `T…#name`.
pub(super) struct ObjectText(pub(super) Object);

impl Serialize for ObjectText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ObjectText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let parse = |text: &str| text.parse().map(Self).map_err(|e| format!("{e}"));
        from.deserialize_str(Text { expected: "`V…` or `T…#name`", parse })
    }
}

/// `NAME=value`.
pub(super) struct Variable(pub(super) String, pub(super) String);

impl Serialize for Variable {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}={}", self.0, self.1))
    }
}

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let parse = |text: &str| match text.split_once('=') {
            Some((name, value)) => Ok(Self(name.to_owned(), value.to_owned())),
            None => Err(format!("`envs` holds `{text}`: expected `NAME=value`")),
        };
        from.deserialize_str(Text { expected: "`NAME=value`", parse })
    }
}

/// `object=path`, or an object with the two where that could be split in two ways.
pub(super) struct ObjectAt {
    pub(super) object: Object,
    pub(super) path: RootPath,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectAtLong {
    object: ObjectText,
    path: RootPath,
}

impl ObjectAt {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &dyn fmt::Display| format!("`objects` holds `{text}`: {why}");
        let cut = text.rfind("=/").ok_or_else(|| wrong(&"expected an id, `=`, and an absolute path"))?;
        let object = text[..cut].parse().map_err(|e| wrong(&e))?;
        let path = RootPath::new(&text[cut + 1..]).map_err(|e| wrong(&e))?;
        Ok(Self { object, path })
    }
}

impl Serialize for ObjectAt {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.path.as_str().contains("=/") {
            let object = ObjectText(self.object.clone());
            return ObjectAtLong { object, path: self.path.clone() }.serialize(to);
        }
        to.collect_str(&format_args!("{}={}", self.object, self.path))
    }
}

impl<'de> Deserialize<'de> for ObjectAt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let long = |long: ObjectAtLong| Self { object: long.object.0, path: long.path };
        let text =
            Text { expected: "`object=path` or an object with `object` and `path`", parse: Self::parse };
        from.deserialize_any(TextOr { text, long, form: PhantomData })
    }
}

/// `path`, or an object with `name` and `path` where they differ.
pub(super) struct OutputAt {
    pub(super) name: OutputName,
    pub(super) path: RootPath,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputAtLong {
    name: String,
    path: RootPath,
}

impl OutputAt {
    fn parse(text: &str) -> Result<Self, String> {
        let path = RootPath::new(text).map_err(|e| format!("`outputs`: {e}"))?;
        Ok(Self { name: text.into(), path })
    }
}

impl Serialize for OutputAt {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if *self.name.0 == *self.path.as_str() {
            return self.path.serialize(to);
        }
        OutputAtLong { name: self.name.0.to_string(), path: self.path.clone() }.serialize(to)
    }
}

impl<'de> Deserialize<'de> for OutputAt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let long = |long: OutputAtLong| Self { name: long.name.as_str().into(), path: long.path };
        let text = Text { expected: "a path or an object with `name` and `path`", parse: Self::parse };
        from.deserialize_any(TextOr { text, long, form: PhantomData })
    }
}

/// Reads a text. A visitor, not a conversion afterwards: so a mistake is reported on its own line.
struct Text<F> {
    expected: &'static str,
    parse: F,
}

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// Reads a text or a longer form. Serde's untagged enums would do, but they swallow the reason of a failure.
struct TextOr<F, G, L> {
    text: Text<F>,
    long: G,
    form: PhantomData<L>,
}

impl<'de, T, F, G, L> Visitor<'de> for TextOr<F, G, L>
where
    F: FnOnce(&str) -> Result<T, String>,
    G: FnOnce(L) -> T,
    L: Deserialize<'de>,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.expecting(f)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        self.text.visit_str(text)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        L::deserialize(MapAccessDeserializer::new(map)).map(self.long)
    }
}
