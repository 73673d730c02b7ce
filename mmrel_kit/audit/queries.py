# SPDX-License-Identifier: Apache-2.0
"""All SQL of the audit, one named query each, over the tables of a `QuestionTable`.

The query of a kind of finding (see `kinds.py`) returns a row for each question concerned, with
three columns:

1. key: questions with the same key are one finding;
2. id: the rowid of the question;
3. dropped: 1 if `build --drop` deletes the question, else 0.
"""

from __future__ import annotations

import mmrel
from mmrel_kit.questions.table import make_order, rank_split

# --- Questions and groups ---


def _select_across_splits(key: str) -> str:
    """Return the query for questions that share a key across splits; the first split keeps them."""
    rank = rank_split("split")
    return f"""
    select key, id, rank > first_rank from (
        select {key} as key, rowid as id, {rank} as rank,
            min({rank}) over same_key as first_rank, max({rank}) over same_key as last_rank
        from questions window same_key as (partition by {key})
    ) where first_rank < last_rank
    """


def _select_groups(condition: str) -> str:
    """Return the query for groups of yes/no questions: their `number`, and how many are `yes`."""
    return f"""
    select key, id, 1 from (
        select split || ' ' || pair_id as key, rowid as id, count(*) over same_group as number,
            sum(answer = 'yes') over same_group as yes
        from questions where pair_id is not null
        window same_group as (partition by split, pair_id)
    ) where {condition}
    """


def _select_relations(key: str, verdict: str) -> str:
    """Return the query for questions whose relation `judge_relation` gives a verdict."""
    return f"""
    select {key}, rowid, 1 from questions
    where relation is not null and judge(category, relation) = '{verdict}'
    """


_QUESTION = "image_id || char(10) || lower(question) || task"

# The same question about the same picture in several splits.
REPEATED_ACROSS_SPLITS = _select_across_splits(_QUESTION)

# The same question about the same picture several times in one split; the first one stays.
REPEATED_WITHIN_SPLIT = f"""
select key, id, nth > 1 from (
    select key, id, row_number() over (partition by key order by id) as nth,
        count(*) over (partition by key) as number
    from (select split || {_QUESTION} as key, rowid as id from questions)
) where number > 1
"""

# Yes/no questions that are alone in their group.
NO_PARTNER = _select_groups("number = 1")

# Groups of several questions without a yes, and without a no.
GROUP_WITHOUT_YES = _select_groups("number > 1 and yes = 0")
GROUP_WITHOUT_NO = _select_groups("number > 1 and yes = number")

# Relations that their category cannot have; each question is a finding.
IMPOSSIBLE_TRIPLET = _select_relations("rowid", "impossible")

# Comparative relations that the taxonomy does not list; each relation is a finding.
UNKNOWN_RELATION = _select_relations("category || relation", "unknown")

# Questions whose subject and object have the same name.
SUBJECT_IS_OBJECT = "select rowid, rowid, 1 from questions where lower(subject) = lower(object)"

# --- Pictures (tables of `pictures.py`) ---

# prints: the hashes of each picture of a split. near: pairs of similar perceptual hashes.
# firsts: the first question about each picture of a split.
CREATE_PICTURES = """
create table if not exists prints (split, image_id, sha256, phash);
create table if not exists near (one, other);
create temp view if not exists firsts as
    select min(rowid) as id, split, image_id from questions group by split, image_id;
"""
INSERT_PRINT = "insert into prints values (?, ?, ?, ?)"
INDEX_PRINTS = """
create index by_sha256 on prints (sha256);
create index by_phash on prints (phash, split);
"""

SELECT_HASHES = "select distinct phash from prints"

# bands: a perceptual hash in parts, so that similar hashes can be joined by a part they share.
CREATE_BANDS = "create temp table bands (band, part, phash)"
INSERT_BAND = "insert into bands values (?, ?, ?)"

# The pairs of hashes that are near, equal ones too, in both orders.
STORE_NEAR = """
create index temp.by_part on bands (band, part);
insert into near select distinct a.phash, b.phash from bands a join bands b using (band, part)
    where a.phash <= b.phash and is_near(a.phash, b.phash);
insert into near select other, one from near where one != other;
create index by_one on near (one, other);
"""

# The same picture in several splits: by its name, all questions of the later splits; and by its
# bytes under several names, of which nothing is dropped.
SAME_PICTURE_ACROSS_SPLITS = f"""
{_select_across_splits("image_id")}
union all
select sha256, id, 0 from (
    select sha256, split, image_id,
        min(image_id) over same_bytes as first_name, max(image_id) over same_bytes as last_name,
        min({rank_split("split")}) over same_bytes as first_rank,
        max({rank_split("split")}) over same_bytes as last_rank
    from prints window same_bytes as (partition by sha256)
) join firsts using (split, image_id) where first_name < last_name and first_rank < last_rank
"""

# Pictures that are similar to another one (`twin`) of a rarer split: both of them, by their first
# questions.
SIMILAR_PICTURE_ACROSS_SPLITS = f"""
select * from (
    with twins as (
        select p.split, p.image_id, (
            select y.rowid from near n join prints y on y.phash = n.other where n.one = p.phash
            and {rank_split("y.split")} < {rank_split("p.split")} and y.sha256 != p.sha256 limit 1
        ) as twin from prints p
    )
    select t.image_id, f.id, 0 from twins t join firsts f using (split, image_id)
    where twin is not null
    union all
    select t.image_id, f.id, 0 from twins t join prints y on y.rowid = t.twin
    join firsts f on f.split = y.split and f.image_id = y.image_id
)
"""

# --- Claims (tables of `claims.py`) ---

# claims: what each yes/no question claims. forbidden: the claims that a yes to it excludes.
CREATE_CLAIMS = """
drop table if exists temp.claims;
drop table if exists temp.forbidden;
create temp table claims (id integer primary key, image_id, category, answer, claim);
create temp table forbidden (id, image_id, category, claim);
"""
SELECT_TRIPLETS = """
select rowid, image_id, category, answer, subject, relation, object from questions
where task = 'discriminative'
"""
INSERT_CLAIM = "insert into claims values (?, ?, ?, ?, ?)"
INSERT_FORBIDDEN = "insert into forbidden values (?, ?, ?, ?)"
INDEX_CLAIMS = "create index temp.by_claim on claims (image_id, category, claim)"

# Two claims about one picture that exclude each other: the same claim with yes and with no, or a
# yes to a claim that a yes to the other one forbids.
CONTRADICTION = """
select * from (
    with conflicts as (
        select x.image_id || char(10) || x.category || char(10) || x.claim as key,
            x.id as one, y.id as other
        from claims x join claims y using (image_id, category, claim)
        where x.answer = 'yes' and y.answer = 'no'
        union all
        select x.image_id || char(10) || x.category || char(10)
            || min(x.claim, y.claim) || max(x.claim, y.claim), x.id, y.id
        from forbidden f join claims x using (id)
        join claims y on y.image_id = f.image_id and y.category = f.category and y.claim = f.claim
        where x.answer = 'yes' and y.answer = 'yes'
    )
    select key, one, 1 from conflicts union all select key, other, 1 from conflicts
)
"""

# --- Names and counts ---

# Each name of an object: how many times it is used, and where it is used first.
SELECT_NAMES = """
select name, number, line from (
    select name, count(*) as number, min(id) as first from (
        select subject as name, rowid as id from questions
        union all select object, rowid from questions
    ) where name is not null group by name
) join questions on questions.rowid = first
"""

# Answers of yes/no questions by domain, category and split.
COUNT_ANSWERS = f"""
select domain, category, split, sum(answer = 'yes'), sum(answer = 'no'), min(line) from questions
where task = 'discriminative' group by domain, category, split
order by domain, {make_order("category", mmrel.CATEGORIES)}, split
"""

# Questions by split, domain, category and task.
COUNT_IN_SPLITS = """
select split, domain, category, task, count(*) from questions
group by split, domain, category, task
"""

# The same over all splits; a question that several splits have counts once.
COUNT_IN_ALL = """
select null, domain, category, task, count(*) from (
    select distinct domain, category, task, image_id, lower(question) from questions
) group by domain, category, task
"""

SELECT_SPLITS = "select distinct split from questions order by split"

# --- The findings of a kind ---


def select_matches(query: str) -> str:
    """Return the query of a kind with its columns named: key, id, dropped."""
    return f"with matches (key, id, dropped) as ({query}) select key, id, dropped from matches"


def create_matches(query: str) -> str:
    """Return the script that stores what the query of a kind selects in the table `matches`."""
    return f"""
    drop table if exists temp.matches;
    create temp table matches as {select_matches(query)};
    create index temp.by_key on matches (key);
    """


COUNT_FINDINGS = "select count(distinct key) from matches"

# The keys of the first findings, in the order of their first questions.
SELECT_KEYS = "select key from matches group by key order by min(id) limit ?"

# Two questions of a finding, from two splits if it has questions of several.
SELECT_EXAMPLE = """
select line, image_id, question, answer from questions join (
    select min(q.rowid) as first,
        row_number() over (partition by q.split order by min(q.rowid)) as nth
    from matches m join questions q on q.rowid = m.id where m.key = ?
    group by q.split, q.question, q.answer
) on questions.rowid = first order by nth, first limit 2
"""


def delete_matches(query: str) -> str:
    """Return the statement that deletes the questions which the query of a kind drops."""
    matches = select_matches(query)
    return f"delete from questions where rowid in (select id from ({matches}) where dropped)"
