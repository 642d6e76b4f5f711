//! Bodies and replies that are no JSON.

use crate::oracle::{DELIVERED, FAILED, Said};
use crate::world::{World, things};

fn posting(endpoint: &str) -> String {
    format!("connection: local\nsource: {{ file: data/things.csv }}\nendpoint:\n  method: POST\n{endpoint}")
}

#[test]
fn xml_goes_out_as_data_and_is_read_as_data() {
    let pipeline = posting(
        "  path: /things\n  content: xml\n  body: { s:thing: { '@xmlns:s': urn:x, '@id': '{{ record.id }}', s:name: '{{ record.name }}' } }\n  \
         captures: { number: '{{ response.body.made.number }}', first: '{{ response.body.made.tag[0] }}' }\n  \
         outcomes: [ { status: 2xx, when: \"{{ response.body.fault.code == '7' }}\", then: failed, message: '{{ response.body.fault.text }}' } ]\n",
    );
    let reply = "POST /things #1 -> 200 content-type=application/xml body='<made><number>42</number><tag>a</tag><tag>b</tag></made>'\n\
                 POST /things #2 -> 200 content-type=text/xml body='<fault><code>7</code><text>no &lt; yes</text></fault>'";
    let world = World::new()
        .pipeline(&format!("{pipeline}delivery: {{ concurrency: 1 }}\n"), "id,name\nt1,</s:name><x/>\nt2,b\n")
        .script(reply);
    world.run("apply p").exits(1);
    let seen = world.seen();
    assert_eq!(seen[0].headers["content-type"], "application/xml");
    assert_eq!(
        String::from_utf8_lossy(&seen[0].body),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<s:thing xmlns:s=\"urn:x\" id=\"t1\"><s:name>&lt;/s:name&gt;&lt;x/&gt;</s:name></s:thing>"
    );
    let said = Said::of(&world, "p");
    assert_eq!((said.in_state(DELIVERED), said.in_state(FAILED)), (vec![0], vec![1]));
    assert_eq!(said.rows[&1].message, "no < yes");
    assert!(world.outcomes("delivered.csv").contains(",42,a"), "{}", world.outcomes("delivered.csv"));
}

#[test]
fn a_reply_that_is_no_xml_decides_nothing() {
    let pipeline = posting(
        "  path: /things\n  outcomes: [ { status: 2xx, when: '{{ response.body.ok }}', then: delivered } ]\n",
    );
    let bomb =
        "POST /things -> 200 content-type=application/xml body='<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>'";
    let world = World::new().pipeline(&pipeline, things(1)).script(bomb);
    world.run("apply p").exits(6);
}

#[test]
fn rows_go_out_together_as_csv() {
    let pipeline =
        posting("  path: /load\n  content: csv\n") + "batch: { size: 2 }\ndelivery: { concurrency: 1 }\n";
    let world = World::new()
        .pipeline(&pipeline, "id,name\nt1,\"a,\"\"b\"\"\"\nt2,\nt3,c\n")
        .script("POST /load -> 200");
    world.run("apply p").exits(0);
    let bodies: Vec<String> =
        world.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
    assert_eq!(bodies, ["id,name\r\nt1,\"a,\"\"b\"\"\"\r\nt2,\r\n", "id,name\r\nt3,c\r\n"]);
    assert_eq!(world.seen()[0].headers["content-type"], "text/csv; charset=utf-8");
}
