//! Objects that clients send, member by member: raw until they are checked, with the names of members that an object
//! doesn't have. A derived `Deserialize` passes over those without a word, and a misspelt member would be lost.

use std::borrow::Cow;

use serde::Deserialize;

/// As many names of members that an object doesn't have are looked at: beyond that they are no typing errors.
pub(crate) const UNKNOWN_MAX: usize = 32;

/// The name of a member.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Name<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Declares an object of raw members. `null` is as good as none, but for `data`.
macro_rules! raw_object {
    ($(#[$doc:meta])* $object:ident { $($field:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(crate) struct $object<'a> {
            $(pub(crate) $field: Option<&'a serde_json::value::RawValue>,)*
            /// Names of members that it doesn't have.
            pub(crate) unknown: Vec<std::borrow::Cow<'a, str>>,
        }

        impl $object<'_> {
            /// The names of its members.
            #[cfg(test)]
            pub(crate) const NAMES: &'static [&'static str] = &[$($name),*];

            /// The names that stand there.
            pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
                let known = [$(self.$field.map(|_| $name)),*].into_iter().flatten();
                known.chain(self.unknown.iter().map(|name| &**name))
            }
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $object<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members<'a>(std::marker::PhantomData<&'a ()>);

                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Members<'a> {
                    type Value = $object<'a>;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        formatter.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<Self::Value, A::Error> {
                        let mut object = $object::default();
                        while let Some($crate::members::Name(name)) = map.next_key()? {
                            match &*name {
                                $($name => {
                                    if object.$field.replace(map.next_value()?).is_some() {
                                        return Err(serde::de::Error::duplicate_field($name));
                                    }
                                })*
                                _ => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                    if object.unknown.len() < $crate::members::UNKNOWN_MAX {
                                        object.unknown.push(name);
                                    }
                                }
                            }
                        }
                        $(object.$field = object.$field.filter(|raw| $name == "data" || raw.get() != "null");)*
                        Ok(object)
                    }
                }

                deserializer.deserialize_map(Members(std::marker::PhantomData))
            }
        }
    };
}

pub(crate) use raw_object;
