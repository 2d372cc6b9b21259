//! `/dns/resolver/{hosts,domains,acls}`: stored at once, in force after an apply. Names that are overridden are let
//! through by the blocklists as soon as they are stored.

use super::audit;
use crate::api::resource::{Data, InEffect, Lists, Resource, Undo, Written, collection};
use crate::api::{ApiError, App, Route};
use crate::compile::Environment;
use crate::config::dns::records::{AclRequest, DomainRequest, HostRequest};
use crate::config::dns::{Acl, DomainOverride, HostOverride};
use crate::config::{Collection, Config, Id, Permission, Refusal, Timestamp};
use crate::store::{Author, Draft, NewAudit};

pub fn routes() -> Vec<Route> {
    [
        collection::<Hosts>(&Lists::new()),
        collection::<Domains>(&Lists::new()),
        collection::<Acls>(&Lists::new()),
    ]
    .concat()
}

/// What differs between the three.
macro_rules! records {
    ($(#[$doc:meta])* $name:ident: $object:ty, $request:ty, $field:ident, $path:literal, $noun:literal, $deleted:literal,
     order $order:ty = $key:expr, $summaries:expr, audited $said:expr, names $names:literal) => {
        $(#[$doc])*
        pub struct $name;

        impl Resource for $name {
            type Object = $object;
            type Request = $request;
            type View<'a> = &'a $object;
            type Schema = InEffect<$object>;
            type Answer = Data<Self::Schema>;
            type Context = ();
            type Order = $order;

            const PATHS: (&'static str, &'static str) = ($path, concat!($path, "/{id}"));
            const NOUN: &'static str = $noun;
            const SUMMARIES: [&'static str; 5] = $summaries;
            const READ: Permission = Permission::DnsRead;
            const WRITE: Permission = Permission::DnsWrite;
            const HAS_GET: bool = false;

            fn collection(config: &Config) -> &Collection<$object> {
                &config.$field
            }
            fn collection_mut(config: &mut Config) -> &mut Collection<$object> {
                &mut config.$field
            }
            fn create(request: $request, now: Timestamp, config: &Config) -> Result<$object, Refusal> {
                request.create(now, config)
            }
            fn replace(
                request: $request,
                stored: &$object,
                _: Timestamp,
                config: &Config,
            ) -> Result<$object, Refusal> {
                request.replace(stored, config)
            }
            fn order(object: &$object) -> Self::Order {
                let key: fn(&$object) -> $order = $key;
                key(object)
            }
            async fn context(_: &App) {}
            fn view<'a>(object: &'a $object, _: &'a ()) -> &'a $object {
                object
            }
            fn audit(author: &Author, written: &Written<$object>, _: &Draft, _: &Environment) -> NewAudit {
                let said: fn(&$object) -> String = $said;
                audit(author, format_args!("{} {} {}", $noun, said(written.object()), written.word()))
            }
            fn deleted(_: &Id) -> String {
                $deleted.into()
            }
            async fn act(app: &App, _: &Author, _: Undo<$object>) -> Result<(), ApiError> {
                if $names {
                    app.applier.follow_blocklists().await;
                }
                Ok(())
            }
        }
    };
}

records! {
    /// Host overrides, by name.
    Hosts: HostOverride, HostRequest, dns_hosts, "/dns/resolver/hosts", "host override", "Host override deleted",
    order (String, String, crate::config::dns::RecordType, Id) = |host| {
        let hostname = host.hostname.as_str().to_ascii_lowercase();
        (hostname, host.domain.plain(), host.record_type, host.id)
    },
    [
        "Names that the resolver answers itself, by host name",
        "Add a host override",
        "A host override",
        "Replace a host override",
        "Delete a host override",
    ],
    audited |host| format!("{} {}", host.name(), host.record_type.word()),
    names true
}

records! {
    /// Domain overrides, by domain.
    Domains: DomainOverride, DomainRequest, dns_domains, "/dns/resolver/domains", "domain override",
    "Domain override deleted",
    order (String, Id) = |row| (row.domain.plain(), row.id),
    [
        "Domains whose questions go to servers of their own, by domain",
        "Add a domain override",
        "A domain override",
        "Replace a domain override",
        "Delete a domain override",
    ],
    audited |row| row.domain.to_string(),
    names true
}

records! {
    /// Access rules, in the order in which they were added.
    Acls: Acl, AclRequest, dns_acls, "/dns/resolver/acls", "ACL entry", "ACL entry deleted",
    order (Timestamp, Id) = |row| (row.created_at, row.id),
    [
        "Who may ask the resolver, in the order added; the most specific network decides",
        "Add an access rule",
        "An access rule",
        "Replace an access rule",
        "Delete an access rule",
    ],
    audited |row| format!("{} {}", row.network, row.action.word()),
    names false
}
