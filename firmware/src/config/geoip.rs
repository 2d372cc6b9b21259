//! Rules by country (contract/firewall.md §7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::{Refusal, Word, text_or_none};
use super::rule::Status;
use super::value::{string_value, words};
use super::{BadValue, Config, Id, Invalid, Label, Object, Timestamp};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

fn check_country(text: &str) -> Result<(), BadValue> {
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()) {
        Ok(())
    } else {
        Err(BadValue::new("expected a two-letter country code (ISO 3166-1 alpha-2)"))
    }
}

string_value!(
    /// Country code, ISO 3166-1 alpha-2, upper case.
    Country, check_country
);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeoIpAction {
    Allow,
    Block,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeoIpRule {
    pub id: Id,
    pub country: Country,
    pub action: GeoIpAction,
    pub label: Option<Label>,
    pub status: Status,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Object for GeoIpRule {
    type Key = Id;
    fn key(&self) -> Id {
        self.id
    }
    fn words(&self) -> Vec<Arc<str>> {
        vec![self.country.as_str().into()]
    }
}

words!(GeoIpAction, "allow or block",
    "allow" | "pass" => Self::Allow, "block" | "deny" => Self::Block);

/// Most geo-IP rules of a configuration.
pub const MAX_GEOIP_RULES: usize = 1_000;

impl Country {
    /// English short name, if ISO 3166-1 has the code.
    pub fn english_name(&self) -> Option<&'static str> {
        let names = COUNTRIES.split('|');
        names
            .filter_map(|entry| entry.split_at_checked(2))
            .find(|(code, _)| *code == self.as_str())
            .map(|(_, name)| name)
    }
    /// The pf table of its networks.
    pub fn table_name(&self) -> String {
        format!("{}{}", super::alias::COUNTRY_TABLE_PREFIX, self.as_str().to_ascii_lowercase())
    }
}

/// Body of POST and PUT (contract/firewall.md §7).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct GeoIpRequest {
    /// ISO 3166-1 alpha-2, any case.
    pub country_code: String,
    pub action: Word<GeoIpAction>,
    #[serde(default, deserialize_with = "text_or_none")]
    pub label: Option<Label>,
    pub status: Option<Word<Status>>,
}

impl GeoIpRequest {
    pub fn create(self, now: Timestamp, config: &Config) -> Result<GeoIpRule, Refusal> {
        if config.geoip.len() >= MAX_GEOIP_RULES {
            return Err(Invalid::new("geoip", format!("expected at most {MAX_GEOIP_RULES} rules")).into());
        }
        self.build(None, now, config)
    }

    pub fn replace(self, stored: &GeoIpRule, now: Timestamp, config: &Config) -> Result<GeoIpRule, Refusal> {
        self.build(Some(stored), now, config)
    }

    fn build(
        self,
        stored: Option<&GeoIpRule>,
        now: Timestamp,
        config: &Config,
    ) -> Result<GeoIpRule, Refusal> {
        let rule = GeoIpRule {
            id: stored.map_or_else(Id::new_v4, |rule| rule.id),
            country: Country::new(&self.country_code.trim().to_ascii_uppercase())
                .map_err(|bad| bad.field("country_code"))?,
            action: self.action.0,
            label: self.label,
            status: self.status.map(|word| word.0).or(stored.map(|rule| rule.status)).unwrap_or_default(),
            created_at: stored.map_or(now, |rule| rule.created_at),
            updated_at: stored.map_or(now, |rule| rule.updated_at),
        };
        if config.geoip.find(rule.country.as_str()).any(|other| other.id != rule.id) {
            return Err(Refusal::Conflict(format!(
                "country_code: there is already a rule for {}",
                rule.country
            )));
        }
        Ok(match stored {
            Some(before) if *before != rule => GeoIpRule { updated_at: now, ..rule },
            _ => rule,
        })
    }
}

/// ISO 3166-1 codes in force, and XK (user-assigned, in use for Kosovo), each followed by its English name.
const COUNTRIES: &str = "ADAndorra|AEUnited Arab Emirates|AFAfghanistan|AGAntigua and Barbuda|AIAnguilla|\
ALAlbania|AMArmenia|AOAngola|AQAntarctica|ARArgentina|ASAmerican Samoa|ATAustria|AUAustralia|AWAruba|\
AXÅland Islands|AZAzerbaijan|BABosnia and Herzegovina|BBBarbados|BDBangladesh|BEBelgium|BFBurkina Faso|\
BGBulgaria|BHBahrain|BIBurundi|BJBenin|BLSaint Barthélemy|BMBermuda|BNBrunei|BOBolivia|\
BQBonaire, Sint Eustatius and Saba|BRBrazil|BSBahamas|BTBhutan|BVBouvet Island|BWBotswana|BYBelarus|\
BZBelize|CACanada|CCCocos (Keeling) Islands|CDDR Congo|CFCentral African Republic|CGCongo|CHSwitzerland|\
CICôte d'Ivoire|CKCook Islands|CLChile|CMCameroon|CNChina|COColombia|CRCosta Rica|CUCuba|CVCabo Verde|\
CWCuraçao|CXChristmas Island|CYCyprus|CZCzechia|DEGermany|DJDjibouti|DKDenmark|DMDominica|\
DODominican Republic|DZAlgeria|ECEcuador|EEEstonia|EGEgypt|EHWestern Sahara|EREritrea|ESSpain|ETEthiopia|\
FIFinland|FJFiji|FKFalkland Islands|FMMicronesia|FOFaroe Islands|FRFrance|GAGabon|GBUnited Kingdom|\
GDGrenada|GEGeorgia|GFFrench Guiana|GGGuernsey|GHGhana|GIGibraltar|GLGreenland|GMGambia|GNGuinea|\
GPGuadeloupe|GQEquatorial Guinea|GRGreece|GSSouth Georgia and the South Sandwich Islands|GTGuatemala|GUGuam|\
GWGuinea-Bissau|GYGuyana|HKHong Kong|HMHeard Island and McDonald Islands|HNHonduras|HRCroatia|HTHaiti|\
HUHungary|IDIndonesia|IEIreland|ILIsrael|IMIsle of Man|INIndia|IOBritish Indian Ocean Territory|IQIraq|\
IRIran|ISIceland|ITItaly|JEJersey|JMJamaica|JOJordan|JPJapan|KEKenya|KGKyrgyzstan|KHCambodia|KIKiribati|\
KMComoros|KNSaint Kitts and Nevis|KPNorth Korea|KRSouth Korea|KWKuwait|KYCayman Islands|KZKazakhstan|\
LALaos|LBLebanon|LCSaint Lucia|LILiechtenstein|LKSri Lanka|LRLiberia|LSLesotho|LTLithuania|LULuxembourg|\
LVLatvia|LYLibya|MAMorocco|MCMonaco|MDMoldova|MEMontenegro|MFSaint Martin|MGMadagascar|\
MHMarshall Islands|MKNorth Macedonia|MLMali|MMMyanmar|MNMongolia|MOMacao|MPNorthern Mariana Islands|\
MQMartinique|MRMauritania|MSMontserrat|MTMalta|MUMauritius|MVMaldives|MWMalawi|MXMexico|MYMalaysia|\
MZMozambique|NANamibia|NCNew Caledonia|NENiger|NFNorfolk Island|NGNigeria|NINicaragua|NLNetherlands|\
NONorway|NPNepal|NRNauru|NUNiue|NZNew Zealand|OMOman|PAPanama|PEPeru|PFFrench Polynesia|\
PGPapua New Guinea|PHPhilippines|PKPakistan|PLPoland|PMSaint Pierre and Miquelon|PNPitcairn|PRPuerto Rico|\
PSPalestine|PTPortugal|PWPalau|PYParaguay|QAQatar|RERéunion|RORomania|RSSerbia|RURussia|RWRwanda|\
SASaudi Arabia|SBSolomon Islands|SCSeychelles|SDSudan|SESweden|SGSingapore|SHSaint Helena|SISlovenia|\
SJSvalbard and Jan Mayen|SKSlovakia|SLSierra Leone|SMSan Marino|SNSenegal|SOSomalia|SRSuriname|\
SSSouth Sudan|STSão Tomé and Príncipe|SVEl Salvador|SXSint Maarten|SYSyria|SZEswatini|\
TCTurks and Caicos Islands|TDChad|TFFrench Southern Territories|TGTogo|THThailand|TJTajikistan|TKTokelau|\
TLTimor-Leste|TMTurkmenistan|TNTunisia|TOTonga|TRTürkiye|TTTrinidad and Tobago|TVTuvalu|TWTaiwan|\
TZTanzania|UAUkraine|UGUganda|UMUnited States Minor Outlying Islands|USUnited States|UYUruguay|\
UZUzbekistan|VAVatican City|VCSaint Vincent and the Grenadines|VEVenezuela|VGBritish Virgin Islands|\
VIUnited States Virgin Islands|VNViet Nam|VUVanuatu|WFWallis and Futuna|WSSamoa|XKKosovo|YEYemen|YTMayotte|\
ZASouth Africa|ZMZambia|ZWZimbabwe";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;
    use crate::config::request;

    fn create(config: &Config, code: &str, action: &str) -> Result<GeoIpRule, Refusal> {
        let body = json!({"country_code": code, "action": action});
        let request = request::from_value::<GeoIpRequest>(body).map_err(Refusal::from)?;
        request.create("2026-01-02T03:04:05Z".parse().unwrap(), config)
    }

    #[test]
    fn requests() {
        let mut config = Config::default();
        let china = create(&config, " cn ", "deny").unwrap();
        assert_eq!((china.country.as_str(), china.action), ("CN", GeoIpAction::Block));
        config.geoip.insert(china.clone());
        assert!(matches!(create(&config, "CN", "allow"), Err(Refusal::Conflict(_))));
        for (code, action) in
            [("CHN", "block"), ("1A", "block"), ("", "block"), ("ÄA", "block"), ("US", "drop")]
        {
            assert!(matches!(create(&config, code, action), Err(Refusal::Invalid(_))), "{code} {action}");
        }
        assert_eq!(china.country.table_name(), "geoip_cn");
    }

    #[test]
    fn names_of_countries() {
        let name = |code: &str| Country::new(code).unwrap().english_name();
        assert_eq!(name("AD"), Some("Andorra"));
        assert_eq!(name("CN"), Some("China"));
        assert_eq!(name("ZW"), Some("Zimbabwe"));
        assert_eq!(name("ZZ"), None);
        let mut codes: Vec<&str> = COUNTRIES.split('|').map(|entry| entry.split_at(2).0).collect();
        assert_eq!(codes.len(), 250);
        assert!(codes.iter().all(|code| Country::new(code).is_ok()));
        codes.dedup();
        assert_eq!(codes.len(), 250);
        assert!(codes.is_sorted());
    }
}
