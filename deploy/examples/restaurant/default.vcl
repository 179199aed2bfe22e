vcl 4.1;

import std;
import xkey;

backend default { .host = "127.0.0.1"; .port = "8080"; }

acl walpurge {
    "127.0.0.1";
}

# The part of docs/sinks/varnish.md that purges by tag.
sub walpurge_recv {
    unset req.http.Walpurge-Purged;
    if (client.ip !~ walpurge) {
        return (synth(405, "Not allowed"));
    }
    if (req.http.xkey) {
        set req.http.Walpurge-Purged = xkey.purge(req.http.xkey);
        return (synth(200, "Purged"));
    }
    return (synth(400, "Not purged"));
}

sub vcl_recv {
    if (req.method == "PURGE") {
        call walpurge_recv;
    }
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    # A guest's own data.
    if (req.url ~ "^/(loyalty|orders)/") {
        return (pass);
    }
    return (hash);
}

sub vcl_synth {
    if (req.method == "PURGE" && resp.status == 200 && req.http.Walpurge-Purged) {
        set resp.http.Walpurge-Purged = req.http.Walpurge-Purged;
    }
}

# The application sends its lifetimes with fractions of a second, which Cache-Control cannot.
sub vcl_backend_response {
    set beresp.ttl = std.duration(beresp.http.Cache-TTL, 0s);
    set beresp.grace = std.duration(beresp.http.Cache-Grace, 0s);
    set beresp.keep = 0s;
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.X-Cache = "HIT";
    } else {
        set resp.http.X-Cache = "MISS";
    }
    unset resp.http.xkey;
    unset resp.http.Cache-TTL;
    unset resp.http.Cache-Grace;
}
