# SPDX-License-Identifier: Apache-2.0
"""The SQL of a project file: its tables, and queries by the question that each answers.

In the tables, `meta` holds settings, `leases` the item that each annotator sees at the moment, and
`standing` the valid decisions (those that were not undone), in the order of `place`.
"""

CREATE_TABLES = """
create table if not exists meta (key text primary key, value text not null);
create table if not exists pictures (image_id text primary key, sha256 text not null);
create table if not exists items (
    id integer primary key, image_id text not null references pictures, category text not null,
    subject text not null, relation text not null, object text not null,
    confidence real, spread text, origin text not null, source text not null,
    state text not null default 'open' check (state in ('open', 'disputed', 'settled')),
    unique (image_id, category, subject, relation, object)
);
create index if not exists by_state on items (state, id);
create table if not exists decisions (
    id text primary key, item integer not null references items, annotator text not null,
    verdict text not null check (verdict in ('accept', 'correct', 'reject', 'skip')),
    subject text, relation text, object text,
    adjudicates integer not null, seconds real, decided_at text not null, undone_at text
);
create index if not exists by_item on decisions (item, annotator) where undone_at is null;
create index if not exists by_annotator on decisions (annotator, item) where undone_at is null;
create index if not exists by_order on decisions (annotator) where undone_at is null;
create index if not exists by_sha256 on pictures (sha256);
create table if not exists leases (
    annotator text primary key, item integer not null, adjudicates integer not null,
    until real not null
);
create index if not exists by_leased on leases (item);
create view if not exists standing as
    select rowid as place, * from decisions where undone_at is null;
"""
# Numbers of items by state and of decisions by annotator, kept by triggers. Counting all rows anew
# would make each decision slower as the project grows.
CREATE_TALLIES = """
begin immediate;
create table if not exists tallies (
    kind text, name text, count integer not null, primary key (kind, name)
);
create trigger if not exists item_added after insert on items begin
    insert into tallies values ('state', new.state, 1)
        on conflict (kind, name) do update set count = count + 1;
end;
create trigger if not exists item_changed after update of state on items begin
    update tallies set count = count - 1 where kind = 'state' and name = old.state;
    insert into tallies values ('state', new.state, 1)
        on conflict (kind, name) do update set count = count + 1;
end;
create trigger if not exists item_removed after delete on items begin
    update tallies set count = count - 1 where kind = 'state' and name = old.state;
end;
create trigger if not exists decision_added after insert on decisions
when new.undone_at is null begin
    insert into tallies values ('by', new.annotator, 1)
        on conflict (kind, name) do update set count = count + 1;
end;
create trigger if not exists decision_undone after update of undone_at on decisions
when old.undone_at is null and new.undone_at is not null begin
    update tallies set count = count - 1 where kind = 'by' and name = new.annotator;
end;
insert into tallies select 'state', state, count(*) from items
    where not exists (select 1 from tallies where kind = 'state') group by state;
insert into tallies select 'by', annotator, count(*) from standing
    where not exists (select 1 from tallies where kind = 'by') group by annotator;
commit;
"""
# Does the file have tallies? One of version 1.0.0 has none.
HAS_TALLIES = "select 1 from sqlite_master where name = 'tallies'"

# --- Settings and pictures ---

# What is the value of a setting?
GET_SETTING = "select value from meta where key = ?"
SET_SETTING = "insert or replace into meta values (?, ?)"
# Set a setting unless it has a value.
SET_DEFAULT = "insert or ignore into meta values (?, ?)"
# Which pictures does the project have, with which hashes?
LIST_PICTURES = "select image_id, sha256 from pictures"
# What is the hash of a picture?
GET_HASH = "select sha256 from pictures where image_id = ?"
# Which picture has a hash?
FIND_PICTURE = "select image_id from pictures where sha256 = ?"
ADD_PICTURE = "insert or ignore into pictures values (?, ?)"

# --- Items ---

_SELECT_ITEM = (
    "select i.id, i.image_id, p.sha256, i.category, i.subject, i.relation, i.object, "
    "i.confidence, i.origin, i.source from items i join pictures p using (image_id)"
)
# Which items are there?
LIST_ITEMS = f"{_SELECT_ITEM} order by i.id"
# Which items are in a state?
LIST_ITEMS_IN_STATE = f"{_SELECT_ITEM} where i.state = ? order by i.id"
# Which item has a number?
GET_ITEM = f"{_SELECT_ITEM} where i.id = :item"
# Which item has this triplet, on this picture, in this category?
FIND_TWIN = """select id from items
where image_id = ? and category = ? and subject = ? and relation = ? and object = ?"""
# Add an item unless the project has it.
ADD_ITEM = """insert or ignore into items
(image_id, category, subject, relation, object, confidence, spread, origin, source)
values (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
RENAME_ITEM = "update items set subject = ?, relation = ?, object = ? where id = ?"
SET_STATE = "update items set state = ? where id = ? and state != ?"
DELETE_ITEM = "delete from items where id = ?"
# Which names occur in items?
LIST_NAMES = "select subject from items union select object from items order by 1 limit ?"
# How many items are there by state?
COUNT_ITEMS = "select name, count from tallies where kind = 'state'"

# --- The next item of an annotator ---

# Open to an annotator: they have not decided on it, and decisions of others and items that others
# see at the moment leave room for one more.
_IS_OPEN = """i.state = 'open'
    and not exists (select 1 from standing d where d.item = i.id and d.annotator = :annotator)
    and (select count(*) from standing d where d.item = i.id and d.verdict != 'skip')
      + (select count(*) from leases l
         where l.item = i.id and l.annotator != :annotator and l.until > :now) < :people"""
# Open to an adjudicator: they have not decided on it, and nobody else sees it at the moment.
_IS_DISPUTED = """i.state = 'disputed'
    and not exists (select 1 from standing d where d.item = i.id and d.annotator = :annotator)
    and not exists (select 1 from leases l
                    where l.item = i.id and l.annotator != :annotator and l.until > :now)"""
# Which is the first open item after another one?
NEXT_OPEN = f"{_SELECT_ITEM} where {_IS_OPEN} and i.id > :after order by i.id limit 1"
# Which is the first open item after another one that has another picture?
PEEK_OPEN = f"""{_SELECT_ITEM} where {_IS_OPEN} and i.id > :after and i.image_id != :image_id
    order by i.id limit 1"""
# Which is the first disputed item?
NEXT_DISPUTED = f"{_SELECT_ITEM} where {_IS_DISPUTED} order by i.id limit 1"
# Is this item open, or disputed?
CHECK_OPEN = f"{_SELECT_ITEM} where {_IS_OPEN} and i.id = :item"
CHECK_DISPUTED = f"{_SELECT_ITEM} where {_IS_DISPUTED} and i.id = :item"
# Which is the last item, by number, that an annotator decided on?
LAST_ITEM = "select max(item) from standing where annotator = ?"
# Which item does an annotator see at the moment?
GET_LEASED_ITEM = """select item from leases
where annotator = ? and adjudicates = ? and until > ?"""
# Was this item shown to an annotator, for adjudication or not, and until when is it theirs?
GET_LEASE = "select adjudicates, until from leases where annotator = ? and item = ?"
SET_LEASE = "insert or replace into leases values (?, ?, ?, ?)"
DELETE_LEASE = "delete from leases where annotator = ?"
DELETE_LEASES_OF_ITEM = "delete from leases where item = ?"

# --- Decisions ---

_DECISION = (
    "id, item, annotator, verdict, subject, relation, object, seconds, adjudicates, decided_at"
)
# Which decisions are valid, that is, not undone?
LIST_DECISIONS = f"select {_DECISION} from standing order by place"
# Which decisions on an item are valid? (One query for both could not use the index.)
LIST_DECISIONS_ON_ITEM = f"select {_DECISION} from standing where item = ? order by place"
# Which decisions are valid, grouped by item?
LIST_DECISIONS_BY_ITEM = f"select {_DECISION} from standing order by item, place"
# Which decision has an id, undone or not?
GET_DECISION = f"select {_DECISION} from decisions where id = ?"
# What does undoing need to know of an annotator's decision?
GET_OWN_DECISION = """select item, adjudicates, undone_at from decisions
where id = ? and annotator = ?"""
# Which is the last valid decision of an annotator?
LAST_DECISION = """select id from decisions indexed by by_order
where annotator = ? and undone_at is null order by rowid desc limit 1"""
# Did another decision settle this item by adjudication?
IS_ADJUDICATED = "select 1 from standing where item = ? and adjudicates and id != ?"
# How many decisions did an annotator make?
COUNT_DECISIONS = "select count from tallies where kind = 'by' and name = ?"
ADD_DECISION = "insert into decisions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null)"
UNDO_DECISION = "update decisions set undone_at = ? where id = ?"
CHANGE_DECISION = """update decisions set verdict = ?, subject = ?, relation = ?, object = ?
where id = ?"""
# Undo the decisions on an item of those who decided on a second item, too.
UNDO_DUPLICATES = """update decisions set undone_at = ? where item = ? and undone_at is null
and annotator in (select annotator from standing where item = ?)"""
MOVE_DECISIONS = "update decisions set item = ? where item = ?"
