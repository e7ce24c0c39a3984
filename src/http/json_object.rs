//! Bodies as JSON: what has names is an object, and what cannot be read is told in words that clients
//! know. Derived readers also take an array in place of an object, by the order of their fields: not here.

use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Number;
use serde_path_to_error::Segment;

use super::problem::Problem;

/// A value that is read from an object, and from nothing else.
struct FromObject<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FromObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Object(deserializer)).map(Self)
    }
}

/// Whatever is asked for, an object is read.
struct Object<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Object<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A list of objects.
///
/// # Errors
/// Where it is no list, or has something else in it.
pub fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::<FromObject<T>>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|FromObject(value)| value).collect())
}

/// # Errors
/// Where it is no whole number, or one that 64 bits do not hold.
pub fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let number = Number::deserialize(deserializer)?.as_i64();
    number.ok_or_else(|| D::Error::custom("a whole number is expected"))
}

/// The object that the body is.
///
/// # Errors
/// 400 naming the place.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Twice only where it fails: the second time tells the place.
    match serde_json::from_slice(bytes) {
        Ok(FromObject(value)) => Ok(value),
        Err(_) => Err(what_is_wrong::<T>(bytes)),
    }
}

fn what_is_wrong<T: DeserializeOwned>(bytes: &[u8]) -> Problem {
    if bytes.trim_ascii().is_empty() {
        return Problem::unreadable("the body is empty");
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, FromObject<T>>(&mut json) else {
        return Problem::unreadable("something follows the JSON value");
    };
    let (path, error) = (error.path(), error.inner());
    if error.is_eof() {
        let (line, column) = (error.line(), error.column());
        return Problem::unreadable(format!(
            "the JSON value has no end: the body is over at line {line} column {column}"
        ));
    }
    if !error.is_data() {
        return Problem::unreadable(error.to_string());
    }
    let name = path.iter().rev().find_map(|segment| match segment {
        Segment::Map { key } => Some(key.as_str()),
        _ => None,
    });
    let text = if path.iter().next().is_some() { format!("{path}: {error}") } else { error.to_string() };
    of_field(&error.to_string(), name, text)
}

/// A refusal that names the field, where the reader's message or the place does.
pub fn of_field(message: &str, place: Option<&str>, detail: String) -> Problem {
    let quoted = ["missing field `", "unknown field `", "duplicate field `"];
    let quoted = quoted.iter().find_map(|start| message.strip_prefix(start)?.split_once('`'));
    let problem = Problem::unreadable(detail);
    match quoted.map(|(field, _)| field).or(place) {
        Some(field) => problem.naming(field),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, expecting = "an object with names and number")]
    struct Body {
        #[serde(deserialize_with = "list")]
        names: Vec<Name>,
        #[serde(deserialize_with = "whole_number")]
        number: i64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(expecting = "an object with name")]
    struct Name {
        name: String,
    }

    fn refusal(text: &str) -> String {
        parse::<Body>(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn an_object_is_read() {
        let body = Body { names: vec![Name { name: "a".to_owned() }], number: -1 };
        assert_eq!(parse::<Body>(br#" {"number": -1, "names": [{"name": "a"}]} "#).expect("read"), body);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        for (text, told) in [
            (r#"[[{"name": "a"}], 1]"#, "invalid type: sequence, expected an object with names and number"),
            (r#"{"names": [["a"]], "number": 1}"#, "names[0]: invalid type: sequence, expected an object with name"),
            (r#"{"names": [{"name": 1}], "number": 1}"#, "names[0].name: invalid type: integer `1`, expected a string"),
            (r#"{"names": [], "number": 1.5}"#, "number: a whole number is expected"),
            (r#"{"names": [], "number": "1"}"#, "number: invalid type: string \"1\", expected a JSON number"),
            (r#"{"names": []}"#, "missing field `number`"),
            ("", "the body is empty"),
            ("\n ", "the body is empty"),
            ("{", "the JSON value has no end: the body is over at line 1 column 1"),
            (r#"{"names": [], "number": 1} 2"#, "something follows the JSON value"),
            ("null", "invalid type: null, expected an object with names and number"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.starts_with(&format!("invalid_request: {told}")), "{text}: {refusal}");
        }
    }
}
