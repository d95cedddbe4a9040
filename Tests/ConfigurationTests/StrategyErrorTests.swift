import Testing

@testable import Configuration

@Suite("What a wrong strategy is told")
struct StrategyErrorTests {
  private static let redis = #""namespace": "s", "redis": "redis://h","#

  /// The complaints about these members of the cache `k:{id}`, whose first stands at 2:1.
  private func found(_ members: String, key: String = "k:{id}", hasRedis: Bool = true) -> [String] {
    let redis = hasRedis ? Self.redis : ""
    return complaints("\(redis) \"caches\": {\"\(key)\": {\n\(members)\n}}")
  }

  @Test(
    "values that cannot be",
    arguments: [
      (#""jitter": 10, "ttl": "1s""#, #"2:11+2 wrong-type 10 has no unit; write "10%""#),
      (#""jitter": 110, "ttl": "1s""#, #"2:11+3 wrong-type 110 is not a share; write it like "10%""#),
      (
        #""jitter": "110%", "ttl": "1s""#,
        #"2:11+6 bad-value "110%" is not a share from "0%" to "100%"; write it like "10%""#
      ),
      (
        #""load": "SELECT 1", "negative": true"#,
        #"2:33+4 wrong-type true does not say how long; write a duration such as "2s", or false"#
      ),
      (#""failSafe": 5"#, #"2:13+1 wrong-type 5 has no unit; write "5ms" or "5s""#),
      (#""load": 1"#, #"2:9+1 wrong-type "load" must be text in double quotes or an object, not a number"#),
      (
        #""load": {"sql": "SELECT 1", "as": "hsh"}"#,
        #"2:35+5 bad-value "hsh" is none of "string", "hash", "list", "set"; did you mean "hash"?"#
      ),
      (
        #""onChange": "refesh", "load": "SELECT 1""#,
        #"2:13+8 bad-value "refesh" is none of "forget", "refresh"; did you mean "refresh"?"#
      ),
      (
        #""stampede": {"coalesce": "yes"}"#,
        #"2:26+5 wrong-type "coalesce" must be true or false, not a string"#
      ),
      (
        #""ttl": "1s", "load": "SELECT 1", "stampede": {"early": "10%"}"#,
        #"2:56+5 wrong-type it is no share of "ttl", since how early a key is refreshed follows from how long its load takes; write true, or a number above 1 to begin sooner"#
      ),
      (
        #""ttl": "1s", "load": "SELECT 1", "stampede": {"early": 0}"#,
        #"2:56+1 bad-value 0 is not false, true or a number above zero"#
      ),
      (
        #""stampede": {"lok": "1s"}"#,
        #"2:14+5 unknown-key unknown key "lok" in caches."k:{id}".stampede; did you mean "lock"?"#
      ),
      (
        #""write": {"policy": "behind", "sql": "SELECT 1", "batch": 0}"#,
        #"2:59+1 bad-value 0 is not a whole number from 1 to 10000"#
      ),
      (
        #""write": {"policy": "behind", "sql": "SELECT 1", "batch": "7"}"#,
        #"2:59+3 wrong-type "batch" must be a whole number from 1 to 10000, not a string"#
      ),
    ])
  func values(members: String, expected: String) {
    #expect(found(members) == [expected])
  }

  @Test(
    "statements whose parameters have no value",
    arguments: [
      (
        "k:{user_id}", #""load": "SELECT :usr_id""#,
        #"2:17+7 bad-value :usr_id is no column of the template "k:{user_id}", whose columns are :user_id; did you mean "user_id"?"#
      ),
      (
        "k:{id}", #""load": {"sql": "SELECT :x"}"#,
        #"2:25+2 bad-value :x is no column of the template "k:{id}", whose columns are :id"#
      ),
      (
        "k:all", #""load": "SELECT :id""#,
        #"2:17+3 bad-value :id is no column of the template "k:all", which has none"#
      ),
      (
        "k:{id}", #""load": "SELECT :value""#,
        #"2:17+6 bad-value :value is what a SET writes, so it stands in "write" only"#
      ),
      (
        "k:{id}", #""write": {"policy": "through", "sql": "SELECT :valeu"}"#,
        #"2:47+6 bad-value :valeu is no column of the template "k:{id}", whose columns are :id; did you mean "value"?"#
      ),
      (
        "k:{value}", #""write": {"policy": "through", "sql": "SELECT :value"}"#,
        #"2:47+6 bad-value :value is what a SET writes, and a column of "k:{value}" too; give the column another name in the template"#
      ),
      (
        "k:{a}{b}", #""load": "SELECT :a""#,
        #"2:17+2 bad-value where one column ends and the next begins in a key cannot be told; put a : between the columns of "k:{a}{b}""#
      ),
      (
        "k:{id}:*", #""load": "SELECT :id""#,
        #"2:9+12 not-supported the template "k:{id}:*" ends in *, so one statement cannot tell its keys apart; give a whole key its own rule"#
      ),
      ("k:{id}", #""load": "SELECT 'a""#, #"2:17+1 bad-value this quote is not closed"#),
      (
        "k:{id}", #""load": "SELECT \"é\", :x""#,
        #"2:24+2 bad-value :x is no column of the template "k:{id}", whose columns are :id"#
      ),
    ])
  func statements(key: String, members: String, expected: String) {
    let text =
      "{\(Self.redis) \"caches\": {\"\(key)\": {\n\(members)\n}}, \"tables\": {\"t\": \"\(key)\"}}"
    #expect(summary(read(text).diagnostics) == [expected])
  }

  @Test("a parameter that a variable gave is not repeated")
  func expanded() {
    let text = #"{"caches": {"k:{id}": {"load": "SELECT ${X}"}}, "tables": {"t": "k:{id}"}}"#
    #expect(
      summary(read(text, environment: ["X": ":hunter2"]).diagnostics) == [
        #"1:40+4 bad-value a parameter of this statement is no column of the template "k:{id}", whose columns are :id"#
      ])
  }

  @Test(
    "what does not fit together",
    arguments: [
      (
        #""negative": "1s""#,
        #"2:13+4 bad-value it keeps that a load found no row, and there is no "load" here; add one or leave this out"#
      ),
      (
        #""onChange": "refresh""#,
        #"2:13+9 bad-value refresh loads the key again, and there is no "load" here; add one or leave this out"#
      ),
      (
        #""load": {"sql": "SELECT 1", "as": "hash"}, "onChange": "refresh""#,
        #"2:56+9 bad-value refresh is for keys that were near, and only strings are kept near; leave it out, or load a string"#
      ),
      (
        #""ttl": "1s", "load": {"sql": "SELECT 1", "as": "set"}, "stampede": {"early": true}"#,
        #"2:78+4 bad-value a value is refreshed where it is near, and only strings are kept near; leave it out, or load a string"#
      ),
      (
        #""load": {"sql": "SELECT 1", "many": "SELECT 1", "as": "hash"}"#,
        #"2:37+10 bad-value it is for MGET, which reads strings; leave it out, or load a string"#
      ),
      (
        #""load": {"sql": "SELECT :id", "many": "SELECT 1"}"#,
        #"2:39+10 bad-value it must bind the columns that "sql" binds, and no others"#
      ),
      (
        #""stampede": {"wait": "1s"}"#,
        #"2:22+4 warning no-effect without "coalesce" and "lock" nobody waits, so this has no effect"#
      ),
      (
        #""stampede": {"lock": "1s"}"#,
        #"2:22+4 bad-value it lets one host load, and there is no "load" here; add one or leave this out"#
      ),
      (
        #""ttl": "1s", "stampede": {"early": true}"#,
        #"2:36+4 bad-value it loads a key again, and there is no "load" here; add one or leave this out"#
      ),
      (
        #""load": "SELECT 1", "stampede": {"early": true}"#,
        #"2:43+4 bad-value it refreshes a key before its time is over, and there is no "ttl" here; add one or leave this out"#
      ),
      (
        #""jitter": "10%""#,
        #"2:11+5 bad-value it shortens "ttl", and there is none here; add one or leave this out"#
      ),
      (
        #""failSafe": "1s", "staleness": {"beyond": "fail"}"#,
        #"2:13+4 bad-value it answers the last value where "staleness.beyond": "fail" of these keys answers an error; leave one of them out"#
      ),
      (
        #""stampede": {"coalesce": false, "wait": "1s"}"#,
        #"2:41+4 warning no-effect without "coalesce" and "lock" nobody waits, so this has no effect"#
      ),
      (
        #""write": "behind""#,
        #"2:10+8 missing "behind" needs a statement; write {"policy": "behind", "sql": "UPDATE …"}"#
      ),
      (
        #""write": {"sql": "SELECT 1"}"#,
        #"2:10+1 missing this write has no "policy"; add "around", "through" or "behind""#
      ),
      (
        #""write": {"policy": "through"}"#,
        #"2:10+1 missing "through" needs a statement; add for example "sql": "UPDATE users SET name = :value WHERE id = :id""#
      ),
      (
        #""write": {"policy": "around", "sql": "SELECT 1"}"#,
        #"2:38+10 bad-value around runs no statement; write "through" or "behind""#
      ),
      (
        #""write": {"policy": "through", "sql": "SELECT 1", "delay": "1s"}"#,
        #"2:60+4 bad-value it belongs to "behind"; leave it out"#
      ),
      (
        #""write": {"policy": "behind", "sql": "SELECT 1", "most": 100}"#,
        #"2:58+3 bad-value at most 100 entries may be pending, so a batch never has 200; raise "most" or lower "batch""#
      ),
      (
        #""load": {"as": "hash"}"#,
        #"2:9+1 missing this load has no "sql"; add for example "sql": "SELECT name FROM users WHERE id = :id""#
      ),
    ])
  func misfits(members: String, expected: String) {
    #expect(found(members) == [expected])
  }

  @Test(
    "what needs Redis",
    arguments: [
      (
        #""load": "SELECT 1", "stampede": {"lock": "1s"}"#,
        #"2:42+4 bad-value the lock is a key of Redis, and there is none here; add "redis" or leave this out"#
      ),
      (
        #""write": {"policy": "behind", "sql": "SELECT 1"}"#,
        #"2:21+8 bad-value behind keeps its journal in Redis, and there is none here; add "redis" or leave "write" out"#
      ),
      (
        #""write": {"policy": "through", "sql": "SELECT 1"}"#,
        #"2:21+9 bad-value through keeps the value in Redis, and there is none here; add "redis" or leave "write" out"#
      ),
      (
        #""write": {"policy": "${WRITE_POLICY:-through}", "sql": "SELECT 1"}"#,
        #"2:21+26 bad-value through keeps the value in Redis, and there is none here; add "redis" or leave "write" out"#
      ),
    ])
  func withoutRedis(members: String, expected: String) {
    #expect(found(members, hasRedis: false) == [expected])
    #expect(found(members) == [])
  }

  @Test("values that no change of a row clears are not loaded or written")
  func unmapped() {
    #expect(
      found(#""load": "SELECT :x""#, key: "other:{x}") == [
        #"1:53+11 bad-value no table has a template for these keys, so no change of a row would clear what "load" stores; add "other:{x}" to the keys of its table"#
      ])
    #expect(
      found(#""write": {"policy": "through", "sql": "SELECT :x"}"#, key: "other:{x}").first?.contains(
        #"what "write" stores"#) == true)
    let found = read(
      #"{"tables": {"t": {"lookup": [{"sql": "SELECT x FROM t", "keys": ["other:{x}"]}]}}, "caches": {"other:{x}": {"load": "SELECT :x"}}}"#
    )
    #expect(summary(found.diagnostics) == [])
  }

  @Test("the global beyond counts for failSafe too")
  func globalBeyond() {
    let fail = #""staleness": {"beyond": "fail"}, "caches": {"k:{id}": {"failSafe": "1s""#
    #expect(complaints(fail + "}}").count == 1)
    #expect(complaints(fail + #", "staleness": {"beyond": "bypass"}}}"#) == [])
  }

  @Test(
    "a loader that cannot be",
    arguments: [
      (
        #"{"replica": true}"#,
        #"1:37+4 bad-value "replica" is about the loader's own url, and it has none here; add the standby's "url""#
      ),
      (#"{"connections": 65}"#, "1:41+2 bad-value 65 is not a whole number from 1 to 64"),
      (#"{"connections": 1.5}"#, "1:41+3 bad-value 1.5 is not a whole number from 1 to 64"),
      (
        #""http://h""#,
        #"1:25+10 bad-value a PostgreSQL URL begins with postgresql://; libpq's other form is "host=db.internal dbname=shop""#
      ),
      (
        #"{"replica": 1, "url": "dbname=b"}"#,
        #"1:37+1 wrong-type "replica" must be true or false, not a number"#
      ),
    ])
  func loader(text: String, expected: String) {
    #expect(complaints("\"postgres\": {\"loader\": \(text)}") == [expected])
  }

  @Test("channels that cannot be")
  func subscribe() {
    #expect(
      complaints(#""subscribe": ["a"]"#) == [
        #"1:15+1 bad-value channels are Redis's, and there is no Redis here; add "redis" or leave this out"#
      ])
    #expect(
      complaints(Self.redis + #""subscribe": ["nearside:s", "a", "a"]"#) == [
        #"1:55+12 bad-value "nearside:s" is one of Nearside's own names; applications publish on a channel of their own, for example "cache-invalidation""#,
        #"1:74+3 warning given-twice this stands twice in this list"#,
      ])
  }
}
