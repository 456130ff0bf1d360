#include "base/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <yaml.h>

int dp_strings_add(struct dp_strings *s, const char *text, struct dp_err *e)
{
    char **v = realloc(s->v, (s->n + 1) * sizeof *v);
    if (v) s->v = v;
    if (!v || !(s->v[s->n] = strdup(text))) DP_FAIL(e, NOMEM, "%s", text);
    s->n++;
    return DP_OK;
}

void dp_strings_release(struct dp_strings *s)
{
    for (size_t i = 0; i < s->n; i++) free(s->v[i]);
    free(s->v);
    *s = (struct dp_strings){NULL, 0};
}

struct load {
    const char *path;
    yaml_document_t *doc;
    const struct dp_section *sections;
    size_t n;
    struct dp_strings *sources;
    const struct dp_recipe_look *look;
    struct dp_err *e;
};

void dp_recipe_places_release(struct dp_recipe_places *p)
{
    free(p->v);
    *p = (struct dp_recipe_places){0};
}

size_t dp_recipe_line(const struct dp_recipe_places *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->v[i].name, name) == 0) return p->v[i].line;
    return 0;
}

/* What can't be kept isn't found later; the message has no line then. */
static void note_place(const struct load *l, const char *section, const char *key, const yaml_node_t *at)
{
    struct dp_recipe_places *p = l->look ? l->look->places : NULL;
    if (!p) return;
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        struct dp_recipe_place *v = realloc(p->v, cap * sizeof *v);
        if (!v) return;
        p->v = v;
        p->cap = cap;
    }
    struct dp_recipe_place *k = &p->v[p->n++];
    snprintf(k->name, sizeof k->name, "%s.%s", section, key);
    k->line = at->start_mark.line + 1;
}

/* Whoever wants to hear of every problem is told of this one, and it goes on. */
static int told(const struct load *l, int rc)
{
    if (rc >= 0 || rc == DP_NOMEM || !l->look || !l->look->problem) return rc;
    l->look->problem(l->look->ctx, l->e);
    return DP_OK;
}

static const char *scalar(const yaml_node_t *n)
{
    return n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

/* Nothing below a key, or YAML's words for it. */
static bool is_null(const yaml_node_t *n)
{
    const char *s = scalar(n);
    return s && n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && (!*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
}

static int bad(struct load *l, const yaml_node_t *n, const char *what, const char *key)
{
    DP_FAIL(l->e, CONFIG, "%s:%zu:%zu: %s%s%s%s", l->path, n->start_mark.line + 1, n->start_mark.column + 1, what, key ? " \"" : "", key ? key : "",
            key ? "\"" : "");
}

static const struct dp_section *section(const struct load *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->sections[i].name, name) == 0) return &l->sections[i];
    return NULL;
}

/* Names that could stand where `key` stands, for the suggestion. */
static int unknown(struct load *l, const yaml_node_t *at, const char *parent, const char *key)
{
    const char *words[256];
    size_t n = 0;
    size_t plen = strlen(parent);
    const struct dp_section *s = section(l, parent);
    for (const struct dp_opt *r = s ? s->rows : NULL; r && r->name && n < 256; r++) words[n++] = r->name;
    char heads[32][64];
    int h = 0;
    for (size_t i = 0; i < l->n && n < 256 && h < 32; i++) {
        const char *name = l->sections[i].name;
        if (plen && (strncmp(name, parent, plen) != 0 || name[plen] != '.')) continue;
        snprintf(heads[h], sizeof heads[h], "%.*s", (int)strcspn(name + plen + (plen > 0), "."), name + plen + (plen > 0));
        words[n++] = heads[h++];
    }
    if (!plen && n < 256) words[n++] = "sources";
    const char *near = dp_opt_nearest(dp_span_str(key), words, n);
    char what[160];
    snprintf(what, sizeof what, "unknown key %s%s%s%s%s; there is no", parent, plen ? "." : "", key, near ? "; did you mean " : "", near ? near : "");
    return bad(l, at, what, key);
}

static int load_sources(struct load *l, const yaml_node_t *v)
{
    if (is_null(v)) return DP_OK; /* `sources:` with nothing below */
    if (v->type != YAML_SEQUENCE_NODE) return bad(l, v, "sources is a list of paths", NULL);
    for (yaml_node_item_t *i = v->data.sequence.items.start; i < v->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(l->doc, *i);
        const char *path = scalar(item);
        char number[24];
        if (!path || !*path) {
            DP_TRY(told(l, bad(l, item, "a source is a path", NULL)));
            continue;
        }
        snprintf(number, sizeof number, "%zu", l->sources->n);
        note_place(l, "sources", number, item);
        DP_TRY(dp_strings_add(l->sources, path, l->e));
    }
    return DP_OK;
}

static int set_option(struct load *l, const char *name, const struct dp_section *s, const struct dp_opt *row, const yaml_node_t *v)
{
    char from[256];
    snprintf(from, sizeof from, "%s:%zu: %s.%s", l->path, v->start_mark.line + 1, name, row->name);
    struct dp_buf list;
    dp_buf_init(&list, 1 << 16);
    int rc = DP_OK;
    if (v->type == YAML_SEQUENCE_NODE && row->type == DP_OPT_LIST) {
        for (yaml_node_item_t *i = v->data.sequence.items.start; rc >= 0 && i < v->data.sequence.items.top; i++) {
            const char *word = scalar(yaml_document_get_node(l->doc, *i));
            if (!word) rc = bad(l, v, "a list of words is wanted for", row->name);
            else dp_buf_printf(&list, "%s%s", list.len ? "," : "", word);
        }
    } else if (scalar(v)) {
        const char *slash = strrchr(l->path, '/');
        if ((row->flags & DP_OPT_PATH) && *scalar(v) && *scalar(v) != '/' && slash)
            dp_buf_add(&list, l->path, (size_t)(slash + 1 - l->path)); /* paths of a recipe begin where it lies, as its sources do */
        dp_buf_add_str(&list, scalar(v));
    } else rc = bad(l, v, "one value is wanted for", row->name);
    if (rc >= 0 && list.full) rc = bad(l, v, "too long a value for", row->name);
    if (rc >= 0) rc = dp_opt_set(row, s->base, dp_buf_span(&list), from, l->e);
    dp_buf_release(&list);
    if (rc == DP_USAGE && l->e) l->e->code = DP_CONFIG;
    return rc == DP_USAGE ? DP_CONFIG : rc;
}

static int load_section(struct load *l, const char *name, const yaml_node_t *v, int depth);

/* p of the mapping v: an option, the sources, or a section below. */
static int load_pair(struct load *l, const char *name, const yaml_node_t *v, const yaml_node_pair_t *p, int depth)
{
    const struct dp_section *s = section(l, name);
    const yaml_node_t *k = yaml_document_get_node(l->doc, p->key), *val = yaml_document_get_node(l->doc, p->value);
    const char *key = scalar(k);
    if (!key) return bad(l, k, "a key is a word", NULL);
    const struct dp_opt *row = s ? dp_opt_find(s->rows, dp_span_str(key)) : NULL;
    char sub[128];
    snprintf(sub, sizeof sub, "%s%s%s", name, *name ? "." : "", key);
    bool known = false;
    for (size_t i = 0; i < l->n; i++) {
        size_t len = strlen(sub);
        known = known || (strncmp(l->sections[i].name, sub, len) == 0 && (l->sections[i].name[len] == 0 || l->sections[i].name[len] == '.'));
    }
    for (yaml_node_pair_t *q = v->data.mapping.pairs.start; q < p; q++) {
        const char *before = scalar(yaml_document_get_node(l->doc, q->key));
        if (before && (strcmp(before, key) == 0 || (row && dp_opt_find(s->rows, dp_span_str(before)) == row)))
            return bad(l, k, "the same key twice:", key);
    }
    if (row) {
        note_place(l, name, row->name, val);
        return set_option(l, name, s, row, val);
    }
    if (!*name && strcmp(key, "sources") == 0) return load_sources(l, val);
    if (known && depth < 4) return load_section(l, sub, val, depth + 1);
    return unknown(l, k, name, key);
}

static int load_section(struct load *l, const char *name, const yaml_node_t *v, int depth)
{
    if (is_null(v)) return DP_OK; /* every key commented out */
    if (v->type != YAML_MAPPING_NODE) return bad(l, v, *name ? "keys and values are wanted under" : "a recipe has keys and values", *name ? name : NULL);
    for (yaml_node_pair_t *p = v->data.mapping.pairs.start; p < v->data.mapping.pairs.top; p++) DP_TRY(told(l, load_pair(l, name, v, p, depth)));
    return DP_OK;
}

int dp_recipe_environ(const struct dp_section *sections, size_t n, struct dp_err *e)
{
    for (size_t i = 0; i < n; i++) {
        char env[128];
        snprintf(env, sizeof env, "%s", sections[i].name);
        for (char *c = env; *c; c++)
            if (*c == '.') *c = '_';
        DP_TRY(dp_opt_environ(sections[i].rows, sections[i].base, env, e));
    }
    return DP_OK;
}

/* libyaml says what is wrong with a text, but not always that it had no memory. */
static int not_yaml(const char *path, const yaml_parser_t *p, struct dp_err *e)
{
    if (p->error == YAML_MEMORY_ERROR || !p->problem) DP_FAIL(e, NOMEM, "%s: YAML parser", path);
    DP_FAIL(e, CONFIG, "%s:%zu:%zu: not YAML: %s", path, p->problem_mark.line + 1, p->problem_mark.column + 1, p->problem);
}

int dp_recipe_load(const char *path, const struct dp_section *sections, size_t n, struct dp_strings *sources, struct dp_err *e)
{
    return dp_recipe_look_into(path, sections, n, sources, NULL, e);
}

int dp_recipe_look_into(const char *path, const struct dp_section *sections, size_t n, struct dp_strings *sources, const struct dp_recipe_look *look,
                        struct dp_err *e)
{
    yaml_parser_t parser;
    yaml_document_t doc;
    int rc = DP_OK;
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) DP_FAIL(e, CONFIG, "%s is no ordinary file", path);
    FILE *f = fopen(path, "rbe");
    if (!f) DP_FAIL_SYS(e, "%s: cannot open", path);
    if (!yaml_parser_initialize(&parser)) {
        fclose(f);
        DP_FAIL(e, NOMEM, "%s: YAML parser", path);
    }
    yaml_parser_set_input_file(&parser, f);
    struct load l = {path, &doc, sections, n, sources, look, e};
    if (!yaml_parser_load(&parser, &doc)) {
        rc = told(&l, not_yaml(path, &parser, e));
    } else {
        yaml_node_t *root = yaml_document_get_root_node(&doc);
        if (root) rc = told(&l, load_section(&l, "", root, 0));
        yaml_document_delete(&doc);
        if (rc >= 0 && root && !yaml_parser_load(&parser, &doc)) {
            rc = told(&l, not_yaml(path, &parser, e));
        } else if (rc >= 0 && root) { /* a second one would be ignored */
            l.doc = &doc;
            root = yaml_document_get_root_node(&doc);
            if (root) rc = told(&l, bad(&l, root, "a recipe is one YAML document; this is a second one", NULL));
            yaml_document_delete(&doc);
        }
    }
    yaml_parser_delete(&parser);
    fclose(f);
    if (rc >= 0) rc = told(&l, dp_recipe_environ(sections, n, e));
    return rc;
}

void dp_recipe_template(const struct dp_section *sections, size_t n, struct dp_buf *out)
{
    dp_buf_add_str(out, "# dpipe recipe: where documents come from, and what is done with them.\n"
                        "# Every option stands here with its default; take the # away to change one. `dpipe run` then redoes what depends on it.\n\n"
                        "# Files, folders and archives (or patterns like crawl-*.warc.gz), relative to this folder; `dpipe ingest SRC...` adds more.\nsources:\n#  - corpus/\n#  - pages.warc.gz\n");
    char parent[64] = "";
    bool own = false; /* the parent is a section itself */
    for (size_t i = 0; i < n; i++) {
        const char *name = sections[i].name, *dot = strchr(name, '.');
        int indent = 0;
        dp_buf_add_char(out, '\n');
        if (dot) {
            if (strncmp(parent, name, (size_t)(dot - name)) != 0 || parent[dot - name]) {
                snprintf(parent, sizeof parent, "%.*s", (int)(dot - name), name);
                dp_buf_printf(out, "%s:\n", parent);
                own = false;
            }
            indent = own ? 1 : 2; /* beside the parent's own options, which stand one column in when the # is taken away */
            name = dot + 1;
        } else {
            snprintf(parent, sizeof parent, "%s", name);
            own = true;
        }
        dp_buf_printf(out, "%*s%s:%*s# %s\n", indent, "", name, 2, "", sections[i].summary);
        for (const struct dp_opt *r = sections[i].rows; r && r->name; r++) {
            struct dp_buf v;
            dp_buf_init(&v, 1 << 16);
            if (r->preset) dp_buf_add_str(&v, r->preset);
            int w = (int)(strlen(r->name) + v.len + 2);
            dp_buf_printf(out, "#%*s%s: %s%*s# %s%s%s%s\n", indent + 1, "", r->name, v.ptr ? v.ptr : "", w < 28 ? 28 - w : 1, "", r->help ? r->help : "",
                          r->choices ? " (" : "", r->choices ? r->choices : "", r->choices ? ")" : "");
            dp_buf_release(&v);
        }
    }
}
