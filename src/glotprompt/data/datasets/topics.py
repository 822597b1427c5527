"""Topic datasets: MasakhaNEWS, SIB-200, Taxi1500."""

from __future__ import annotations

from glotprompt.data.datasets import masakhanews
from glotprompt.data.datasets.dataset import Dataset
from glotprompt.data.languages import language
from glotprompt.data.readers.layout import Columns, HubFiles, Layout, placed

_SHOTS = ("5", "10", "20", "50")
_B, _E, _H, _P, _R, _S, _T = masakhanews.LABELS


_NEWS_COLUMNS = Columns({"text": "headline"}, "category", unread=("text",))

MASAKHANEWS = Dataset(
    name="masakhanews",
    title="MasakhaNEWS",
    kind="news topics",
    languages=masakhanews.LANGUAGES,
    labels=masakhanews.LABELS,
    labels_by_language={
        "amh": (_B, _H, _P, _S),
        "eng": (_B, _E, _H, _P, _S, _T),
        "fra": (_B, _H, _P, _S, _T),
        "ibo": (_B, _E, _H, _P, _R, _S),
        "lin": (_B, _H, _P, _S),
        "lug": (_B, _H, _P, _R, _S),
        "orm": (_E, _H, _P, _S, _T),
        "pcm": (_B, _E, _H, _P, _S),
        "run": (_B, _E, _H, _P, _R, _S),
        "sna": (_B, _H, _P, _S),
        "tir": (_B, _E, _H, _P, _S, _T),
        "xho": (_B, _E, _H, _P, _S),
        "yor": (_E, _H, _P, _R, _S),
    },
    splits=("train", "dev", "test"),
    extra_splits=("headlines", *(f"{n}-shot{part}" for n in _SHOTS for part in ("", "-dev"))),
    source_languages=("hau",),
    task="news",
    layout=Layout(
        {
            **placed(
                ("masakhanews", "masakhane-news/data"), "{language}/{split}.tsv", train="train", dev="dev", test="test"
            ),
            "headlines": ("masakhanews/{language}/train.headlines.tsv",),
            **{
                f"{n}-shot{part}": (f"masakhanews_few_shot/{n}_samples/{{language}}/{file}.tsv",)
                for n in _SHOTS
                for part, file in (("", "train"), ("-dev", "dev"))
            },
        },
        _NEWS_COLUMNS,
    ),
    hub=HubFiles(
        "masakhane/masakhanews",
        "8ccc72e69e65f40c70e117d8b3c08306bb788b60",
        "commit: pinned by the MTEB benchmark; file names: the branch main, as public programs fetch them",
        {split: f"data/{{language}}/{split}.tsv" for split in ("train", "dev", "test")},
        _NEWS_COLUMNS,
    ),
    make_texts=masakhanews.article_texts,
    citation="Adelani et al. 2023, MasakhaNEWS: News Topic Classification for African languages. IJCNLP-AACL.",
    licence="unclear: none on the main branch; another branch mixes MIT and CC BY-NC-SA; copies claim CC BY-NC or AFL",
    homepage="https://github.com/masakhane-io/masakhane-news",
    get="Clone https://github.com/masakhane-io/masakhane-news and copy or link its folder data as masakhanews",
    unlabelled="the training articles, without those that dev or test repeats",
    notes=(
        "Examples are headlines. Not every label occurs in every language.",
        "headlines: further training headlines of hau. 5-shot to 50-shot: the published few-shot draws, n per class,"
        " the smaller within the larger; 5-shot-dev and so on: their dev parts.",
    ),
)

_SIB = """
    ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn als_Latn amh_Ethi apc_Arab arb_Arab
    arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn
    ban_Latn bel_Cyrl bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn
    ceb_Latn ces_Latn cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek
    eng_Latn epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn
    gaz_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn
    hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn
    kan_Knda kas_Arab kas_Deva kat_Geor kaz_Cyrl kbp_Latn kea_Latn khk_Cyrl khm_Khmr kik_Latn kin_Latn kir_Cyrl
    kmb_Latn kmr_Latn knc_Arab knc_Latn kon_Latn kor_Hang lao_Laoo lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn
    ltg_Latn ltz_Latn lua_Latn lug_Latn luo_Latn lus_Latn lvs_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Arab
    min_Latn mkd_Cyrl mlt_Latn mni_Beng mos_Latn mri_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nqo_Nkoo
    nso_Latn nus_Latn nya_Latn oci_Latn ory_Orya pag_Latn pan_Guru pap_Latn pbt_Arab pes_Arab plt_Latn pol_Latn
    por_Latn prs_Arab quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Olck scn_Latn shn_Mymr sin_Sinh
    slk_Latn slv_Latn smo_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn
    swe_Latn swh_Latn szl_Latn tam_Taml taq_Latn taq_Tfng tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi
    tpi_Latn tsn_Latn tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab
    uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zsm_Latn
    zul_Latn
"""


def _sib_key(folder: str) -> str:
    """Our code for a folder such as "quy_Latn"; with the script if it is not the language's usual one."""
    code, script = folder.split("_")
    return code if language(code).scripts[0] == script else f"{code}-{script}"


_SIB_FOLDERS = {_sib_key(folder): folder for folder in _SIB.split()}
_SIB_COLUMNS = Columns({"text": "text"}, "category", "index_id")

SIB200 = Dataset(
    name="sib200",
    title="SIB-200",
    kind="topics",
    languages=tuple(_SIB_FOLDERS),
    labels=tuple("entertainment geography health politics science/technology sports travel".split()),
    splits=("train", "dev", "test"),
    source_languages=("eng",),
    layout=Layout(
        placed(("sib200", "sib-200/data/annotated"), "{language}/{split}.tsv", train="train", dev="dev", test="test"),
        _SIB_COLUMNS,
        _SIB_FOLDERS,
    ),
    hub=HubFiles(
        "Davlan/sib200",
        "38977a667f6fc264d5c26ec57a01e16db040b358",
        "commit: pinned by the MTEB benchmark; file names: the branch main, as public programs fetch them",
        {split: f"data/{{language}}/{split}.tsv" for split in ("train", "dev", "test")},
        _SIB_COLUMNS,
        _SIB_FOLDERS,
    ),
    citation="Adelani et al. 2024, SIB-200: A Simple, Inclusive, and Big Evaluation Dataset for Topic Classification in"
    " 200+ Languages and Dialects. EACL.",
    licence="CC BY-SA 4.0 for the texts (FLORES-200); the repository has Apache 2.0",
    homepage="https://github.com/dadelani/sib-200",
    get="Clone https://github.com/dadelani/sib-200 and copy or link its folder data/annotated as sib200",
    unlabelled="the 701 training sentences, which is little; the same sentences are in all languages",
)

TAXI1500 = Dataset(
    name="taxi1500",
    title="Taxi1500",
    kind="topics",
    languages=(),
    labels=("Recommendation", "Faith", "Description", "Sin", "Grace", "Violence"),
    splits=("train", "dev", "test"),
    source_languages=("eng",),
    layout=Layout(
        {
            split: (f"taxi1500/{split}/{{language}}.tsv", f"taxi1500/{{language}}_{split}.tsv")
            for split in ("train", "dev", "test")
        },
        Columns({"text": "verse"}, "label", "id", ("id", "label", "verse"), "none", blank_is_missing=True),
    ),
    citation="Ma et al. 2023, Taxi1500: A Multilingual Dataset for Text Classification in 1500 Languages."
    " arXiv:2305.08487.",
    licence="the labels are with Apache 2.0 code; each Bible edition has its own terms, and 832 of the 1,502"
    " languages cannot be given on",
    homepage="https://github.com/cisnlp/Taxi1500",
    get="Ask for the files with the form at https://github.com/cisnlp/Taxi1500 and put them into taxi1500/train, dev"
    " and test as <ISO 639-3>.tsv (of glv, cni and quc the demo's scenario manx fetches them)",
    unlabelled="the training verses, which are few; a Bible edition minus the dev and test verses would be more",
    notes=(
        "The same 1,077 verses in every language; an edition that lacks one has a row without text, which is passed"
        " over and counted. Ids are the verse's: 55002024 is book 55 (Matthew is 40), chapter 2, verse 24.",
        "Verses in about 1,500 languages: any code is taken, and the folder decides. The layout is that of the"
        " publisher's own script; the archives behind the form could not be looked into.",
        "On the hub there are raw verses without labels only.",
    ),
)
