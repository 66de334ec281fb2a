//! X.500 names as .NET prints them, which is how Exchange names certificates (exchange-edge.md
//! 3.3): most specific part first, joined by a comma and a blank.

use std::fmt::Write;

use x509_parser::prelude::*;

/// `CN=edge01.lab.test, O="Contoso, Ltd.", C=DE`
pub(super) fn dotnet_name(name: &X509Name<'_>) -> String {
    let parts: Vec<&RelativeDistinguishedName<'_>> = name.iter().collect();
    let mut text = String::new();
    for (index, part) in parts.into_iter().rev().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push_str(" + ");
            }
            push_label(&mut text, &attribute.attr_type().to_id_string());
            push_value(&mut text, &value(attribute));
        }
    }
    text
}

/// A text attribute as text.
pub(super) fn value(attribute: &AttributeTypeAndValue<'_>) -> String {
    match attribute.as_str() {
        Ok(text) => text.to_owned(),
        Err(_) if attribute.attr_value().tag() == asn1_rs::Tag::BmpString => {
            let units =
                attribute.as_slice().chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        Err(_) => String::from_utf8_lossy(attribute.as_slice()).into_owned(),
    }
}

fn push_label(text: &mut String, oid: &str) {
    let label = match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "SERIALNUMBER",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "S",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "T",
        "2.5.4.42" => "G",
        "2.5.4.43" => "I",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "E",
        other => {
            let _ = write!(text, "OID.{other}=");
            return;
        }
    };
    text.push_str(label);
    text.push('=');
}

/// Quoted, with quotes doubled, when the value could be taken for more of the name.
fn push_value(text: &mut String, value: &str) {
    let quoted = value.is_empty()
        || value.starts_with(' ')
        || value.ends_with(' ')
        || value.contains([',', '+', '=', '"', '\n', '<', '>', '#', ';']);
    if quoted {
        text.push('"');
        text.push_str(&value.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    #[test]
    fn most_specific_first_and_quoted_where_needed() {
        let mut name = DistinguishedName::new();
        name.push(DnType::CountryName, "DE");
        name.push(DnType::StateOrProvinceName, "Hessen");
        name.push(DnType::OrganizationName, "Contoso, \"Ltd.\"");
        name.push(DnType::CustomDnType(vec![1, 2, 3, 4]), "x");
        name.push(DnType::CommonName, "edge01.lab.test");
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = name;
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, certificate) = parse_x509_certificate(der.der()).unwrap();
        assert_eq!(
            dotnet_name(certificate.subject()),
            "CN=edge01.lab.test, OID.1.2.3.4=x, O=\"Contoso, \"\"Ltd.\"\"\", S=Hessen, C=DE"
        );
    }
}
