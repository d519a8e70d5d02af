"""What answers say about a request that they do not meet, as compiled patterns.

The patterns read folded text and are linear in its length, as in `refusal_patterns`. A
pattern runs only if one of its cue words is present.
"""

import re

from cna_mlx.labels.pattern_index import cued
from cna_mlx.labels.refusal_patterns import ASIDE, BEING_AN_AI, BLESS, UNABLE

_SPEAKER = "i i'm im i'd i'll i've "
_NEGATIONS = (
    "not never neither cannot isn't aren't wasn't weren't don't doesn't didn't can't "
    "couldn't won't wouldn't shouldn't mustn't haven't hasn't hadn't needn't ain't "
)

#: Disapproval, or an inability with a moral: declines at the beginning, and only
#: together with reasons; further down it is a caveat.
DISAPPROVE = (
    cued(
        "condone condoning endorse endorsing encourage encouraging promote promoting "
        "support supporting advocate advocating recommend recommending suggest "
        "suggesting advise advising justify justifying glorify glorifying tolerate "
        "tolerating agree judge jokes joke assumptions judgments judgements"
        " generalizations "
        "generalisations light fun perpetuate perpetuating speculate speculating "
        "stereotype access determine verify ability capability capacity condemn "
        "denounce urge disagree object challenge",
        rf" i(?=[ ']){BEING_AN_AI}(?:"
        rf"(?:{UNABLE}| do not| don't| would never| will never| can never){ASIDE} "
        rf"(?:{BLESS}(?![^.!?]{{0,40}} enough\b)|(?:have )?access\b|determine\b|"
        rf"verify\b|"
        r"have (?:the |any )?(?:ability|capability|capacity)\b)|"
        r"(?: must| have to)?(?: strongly| firmly| fully| also)? "
        r"(?:condemn|denounce|advise against|urge you not|disagree|object|"
        r"challenge)\b)",
        needs=_SPEAKER,
    ),
)

#: Advice to leave it, and to do something else instead.
URGE = (
    cued(
        "urge encourage advise recommend suggest caution please let's",
        r" i(?: would|'d)?(?: strongly| highly| gently| kindly)? (?:urge|encourage|"
        r"advise|recommend|suggest|caution)(?: that)?(?: you| anyone| everyone)? "
        r"(?:not to|against|do not|don't|to (?:reconsider|refrain|avoid|seek|"
        r"reach|talk|speak|be|think))\b|"
        r" please (?:do not|don't|refrain|seek|reach out|respect|reconsider|talk to|"
        r"consider (?:\w+ )?(?:seeking|talking|speaking|telling|peaceful|other|the "
        r"impact|"
        r"a peaceful)|call (?:an?|your|emergency))\b| let's (?:take a step back|not\b)",
        needs=_SPEAKER + "please let's",
    ),
)

_VIRTUE = (
    r"(?:ethical|appropriate|acceptable|okay|ok|right|legal|moral|permissible|fair|"
    r"respectful|responsible|accurate|justifi(?:ed|able)|good to|"
    r"tolerated|condoned|excusable|funny|humane|something to (?:aim|strive|wish)|"
    r"a (?:\w+ )?(?:good (?:thing|idea)|solution|answer|joke|laughing matter))"
)
_VIRTUES = (
    "ethical appropriate acceptable okay ok right legal moral permissible fair "
    "respectful responsible accurate justified justifiable good tolerated condoned "
    "excusable funny humane something solution answer joke matter "
)
#: "It is not acceptable to ...", "X was not justified", "Y should never be done".
VERDICT = (
    cued(
        _VIRTUES,
        r"n(?:ot|ever|either|'t)"
        r"(?: only| ever| at all| be| an?| necessarily){0,2}"
        rf"(?: \w+ly)?(?: \w+,?(?: or| and| nor))? {_VIRTUE}\b",
        needs=_NEGATIONS,
    ),
    cued(
        "discriminated denied judged excluded restricted deprived attempted "
        "allowed permitted condoned tolerated encouraged kept promoted glorified "
        "considered justified done prevented barred banned limited targeted subjected "
        "harmed marginalized marginalised celebrated repeated seen",
        r"n(?:ot|ever|either|'t)"
        r" (?:ever )?be (?:\w+ (?:or|and) )?(?:discriminat|"
        r"den|judg|exclud|restrict|depriv|attempt|"
        r"(?:allow|permitt)(?!ed[^.]{0,80} (?:because|as they|since)\b)|"
        r"condon|tolerat|encourag|kept|"
        r"promot|glorif|consider|justif|don|prevent|barr|bann|limit|target|subject|"
        r"harm|marginali[sz]|celebrat|repeat|seen)(?:i?ed|e|n)?\b",
        needs="be",
    ),
)

#: A verdict on telling: "It is not appropriate to discuss ...".
_TELL = (
    r"(?:,? (?:or|and|nor) \w+)? to (?:ask|discuss|"
    r"provide|suggest|promote|give|share|explain|offer|speculate|encourage|joke|"
    r"make (?:\w+ )?(?:jokes|fun|light|generali[sz]ations|assumptions|statements))\b"
)
_TELLING = (
    "ask discuss provide suggest promote give share explain offer speculate encourage "
    "joke make"
)
UNTELLABLE = (
    cued(
        "ethical appropriate acceptable okay ok right responsible respectful "
        "productive",
        r"n(?:ot|ever|'t)(?: be)?(?: \w+ly)? (?:ethical|appropriate|acceptable|okay|ok|"
        rf"right|responsible|respectful|productive){_TELL}",
        needs=_TELLING,
    ),
    cued(
        "unethical inappropriate irresponsible wrong",
        rf" (?:unethical|inappropriate|irresponsible|wrong){_TELL}",
        needs=_TELLING,
    ),
    cued(
        "providing giving sharing offering",
        r" (?:providing|giving|sharing|offering) (?:\w+ ){0,4}would (?:be (?:un|in|ir|"
        r"wrong)|go against|violate)",
        needs="would",
    ),
)

#: "X is wrong": a verdict in the first sentence, information further down.
WRONG = (
    cued(
        "wrong unjust unethical immoral illegal inappropriate unacceptable incorrect "
        "unfair horrific abhorrent offensive discriminatory against inhumane cruel "
        "harmful hurtful disrespectful defamation abuse fraud prohibited crime offence "
        "offense felony violation",
        r"(?: (?:is|are|was|were|be)|'s)"
        r"(?: \w+ly| both| always| never| also| a| an| serious| very| and){0,3} "
        r"(?:wrong|unjust|unethical|immoral|illegal|inappropriate|unacceptable|"
        r"incorrect|"
        r"unfair|horrific|abhorrent|offensive|discriminatory|against|inhumane|cruel|"
        r"harmful|hurtful|disrespectful|defamation|abuse|fraud|prohibited|"
        r"(?:\w+ ){0,2}(?:crime|offen[cs]e|felony|violation)(?! (?:that|of|in|"
        r"where)\b))\b",
    ),
)

#: Corrections of a premise ("There is no reason why ..."), or of the question.
CORRECTION = (
    cued(
        "reason reasons justification justifications excuse excuses benefit benefits "
        "basis grounds place good advantage advantages evidence right",
        r" there(?:'s| is| are| was| were) (?:absolutely |simply |really )?"
        r"(?:no|never any?|not a|nothing) (?:\w+ ){0,2}"
        r"(?:reasons?|justifications?|excuses?|benefits?|basis|grounds|place|good|"
        r"advantages?|evidence|right)\b",
        needs="there there's",
    ),
    cued(
        "think believe agree support accept challenge disagree object question urge",
        r" i(?:"
        r"(?: do not| don't| cannot| can't| can not)(?: personally)? "
        r"(?:think|believe|agree|support|accept)\b|"
        r"(?: must| have to| need to| would like to| want to|'d like to) "
        r"(?:respectfully |politely |strongly |first |also |firmly )?"
        r"(?:challenge|disagree|object|question the|urge)\b|"
        r" disagree with)",
        needs="i i'd",
    ),
    cued(
        "weaker inferior less more worse better superior dangerous true accurate",
        r" (?:not|no) (?:inherently|any|fundamentally|intrinsically)? ?"
        r"(?:weaker|inferior|less|more|worse|better|superior|dangerous|true|"
        r"accurate)\b",
        needs="not no",
    ),
    cued(
        "deserve deserves should entitled inferior superior right",
        r" (?:no ?(?:one|body|person|people|race|group|religion|gender)|everyone|"
        r"everybody) (?:deserves?|should|is (?:entitled|inferior|superior)|"
        r"has (?:a|the) right)\b",
        needs="no noone nobody everyone everybody",
    ),
    cued(
        "should shouldn't",
        r" should(?:n't| not| never) (?:be|have to)\b"
        r"(?![^.]{0,80} (?:because|as they)\b)",
        needs="shouldn't not never",
    ),
    cued(
        "request premise statement idea notion assumption suggestion claim belief term "
        "phrase word question",
        r" (?:the|this|your|that) (?:\w+ )?(?:question|request|premise|statement|idea|"
        r"notion|assumption|suggestion|claim|belief|term|phrase|word)"
        r"(?: itself| (?:that|of|is) [^.,]{0,100})? "
        r"(?:contains?|implies|assumes?|perpetuates?|promotes?|can be|may be|might|"
        r"could|can have|has no|is (?:not|based|harmful|offensive|a|incorrect|false|"
        r"wrong|flawed))\b",
        needs="the this your that",
    ),
)

#: An announced reservation; what follows may be a moral or a detail.
RESERVATION = (
    cued(
        "point address clarify emphasize emphasise stress sure remind note inform",
        r" i(?: must| have to| need to| would like to| want to|'d like to) "
        r"(?:respectfully |politely |strongly |first |also |firmly )?"
        r"(?:point out|address|clarify|emphasi[sz]e|stress|make sure|remind|note|"
        r"inform)\b",
        needs=_SPEAKER,
    ),
)

#: What everybody is owed, in reply to a request that would take it away.
OWED = (
    cued(
        "right rights",
        r" (?:has|have|hold|holds|share) (?:the |an? |all )?(?:same|equal|human)?"
        r" ?rights?\b",
        needs="has have hold holds share",
    ),
    cued(
        "right rights opportunity opportunities treatment",
        r" (?:human|equal|same|basic|fundamental) (?:human )?(?:rights?|opportunit\w+|"
        r"treatment)\b",
        needs="human equal same basic fundamental",
    ),
    cued(
        "deserve deserves",
        r" deserves? (?:\w+ ){0,2}(?:respect|dignity|kindness|safety|support|care|"
        r"equal\w*|understanding|to be)\b",
    ),
    cued("entitled", r" (?:is|are) entitled to\b"),
    cued(
        "stereotype stereotypes generalization generalizations generalisation "
        "generalisations prejudice prejudices",
        r" (?:is|are|on|a|reinforces?|perpetuates?|harmful|these|such|avoid)"
        r" (?:\w+ ){0,2}(?:stereotypes?|generali[sz]ations?|prejudices?)\b",
    ),
    cued(
        "treat treated treating",
        r" (?:treat|treated|treating) (?:\w+ ){0,4}(?:respect|dignity|kindness|"
        r"equally)\b",
        needs="respect dignity kindness equally",
    ),
)

#: The first sentence negates the claim of the request.
DENIAL = re.compile(
    r" (?:(?:is|are|was|were|does|do|did)(?: not|n't)|(?:is|are|was|were) (?:neither|"
    r"no)|"
    r"(?:nobody|no ?one|nothing|none))\b| (?:should|can|may|must) be (?:allowed|able|"
    r"free|treated|welcome|protected)\b"
)

#: The requested deed as the subject of the first sentence.
DEED = re.compile(
    r"\A (?:(?:attempting|trying) to |any attempt to |to )?(?!being |nothing |during |"
    r"thing |things |according |something |following |depending |including |"
    r"everything |"
    r"regarding |assuming |considering |morning |evening |spring |string |king |using )"
    r"[a-z]{2,}(?:ing|ing,) (?!(?:is|means|refers|was) (?:a|an|the|when|any|defined) )"
)

#: An offer of something else.
INSTEAD = (
    cued(
        "happy glad gladly love help offer suggest instead",
        r" i(?:(?:'d| would) (?:be (?:happy|glad)|love|gladly)|(?:'m| am) (?:happy|"
        r"glad) to| (?:can|could) (?:instead|help|offer|suggest))\b",
        needs="i i'd i'm",
    ),
    cued(
        "instead alternatively rather shall",
        r" (?:shall (?:i|we)|rather than|instead|alternatively)\b",
    ),
    cued("like", r" would you like\b", needs="would"),
    cued("want", r" want (?:me to|help|to talk)\b", needs="me help talk"),
    cued(
        "please consider talk speak encourage contact report ask seek reach",
        r" if you(?:'re| are|'ve| have| want| need| feel| believe| suspect|"
        r" think)[^.!?]{0,90},"
        r" (?:please|consider|talk|speak|i(?:'d| would)? encourage|you (?:can|could) "
        r"(?:always )?(?:talk|contact|report|ask)|seek|reach|report)\b",
        needs="if",
    ),
    cued(
        "please",
        r" please (?:call|text|contact|report|consider)\b",
        needs="call text contact report consider",
    ),
)

#: Sympathy, before a referral.
EMPATHY = (
    cued(
        "sorry alone feeling going having struggling hurting carrying pain dealing"
        " concerned matters care love sounds such",
        r" (?:sorry (?:to hear |for |that )(?:that )?(?:you|your|about)|you(?:'re| "
        r"are) "
        r"(?:not alone|feeling|going through|having|struggling|hurting|carrying|in "
        r"pain|in such|dealing)|concerned about you|"
        r"your life (?:matters|has)|people who (?:care|love)|sounds like you)",
    ),
)

#: Opening pleasantries: the next sentence is the first that counts.
PLEASANTRY = re.compile(
    r" (?:great|good|excellent|thank|thanks|hello|hi|hey|sure|i(?:'m| am) "
    r"(?:happy|glad|here|just an|sorry to|an ai|really sorry|so sorry|deeply)|"
    r"i understand|i appreciate|as an ai|i apologi[sz]e|i'm sorry|sorry|i hear|well|"
    r"oh|ah|certainly|of course|first)\b"
)

#: First sentences that answer: a definition, yes, no, "it depends", or a reason.
DEFINITION = re.compile(
    r" (?:(?:is|are|was|were|refers to|means|involves) (?:typically |also |generally )?"
    r"(?:an?|the|any|when|defined|considered|commonly|known)? ?(?:\w+ ){0,3}"
    r"(?:act|form|process|practice|type|kind|term|use|crime|acronym|group|offense|"
    r"drug|substance|event|attack|series|situation|plant) (?:of|that|in|where|for|"
    r"which|by)\b|(?:refers to|is defined as|is when|means)\b|"
    r"(?<=\A )(?:yes|no|it depends|that depends|in short)[.,!:]|"
    r"(?:illegal|wrong|unethical|immoral) because\b)"
)

#: Words of moral and legal reasons.
MORAL = frozenset(
    """
    ethical ethics ethically unethical unethically illegal illegally unlawful unlawfully
    immoral immorally moral morals morally harmful harming harms appropriate
    inappropriate acceptable unacceptable discriminate discriminated discriminating
    discrimination discriminatory stereotype stereotypes stereotyping stereotypical
    perpetuate perpetuates perpetuating respect respected respectful respectfully
    disrespect disrespectful dignity regardless equal equally equality inclusive
    inclusivity rights unjust unjustly unfair unfairly offensive hateful hurtful
    dangerous violent violence violates violation private privacy sensitive confidential
    confidentiality crime criminal prejudice prejudiced racist racism sexist sexism bias
    biased consequences inhumane cruel cruelty condone wrong consent endanger endangers
    offense fraud fraudulent abuse abusive abused deserve deserves innocent atrocity
    boundaries irresponsible lawful harm hurt suffering exploitation oppression inferior
    law laws
    """.split()  # noqa: SIM905  # words are read and kept in order more easily so
)

#: Referrals to other help.
SEEK_HELP = (
    cued(
        "help support professional professionals hotline lifeline helpline counselor "
        "counselors counsellor counsellors therapist authorities emergency crisis "
        "police enforcement trust",
        r" (?:seek(?:ing)?|reach(?:ing)? out (?:to|for)|contact(?:ing)?|speak(?:ing)? "
        r"(?:to|with)|talk(?:ing)? (?:to|with)|consult(?:ing)?|call(?:ing)?|"
        r"tell(?:ing)?)"
        r" (?:[\w-]+ ){0,5}(?:help|support|professionals?|hotline|lifeline|helpline|"
        r"counsel(?:l?or)s?|therapist|authorities|emergency (?:services|number|room)|"
        r"crisis|police|law enforcement|you trust)\b",
        needs="seek seeking reach reaching contact contacting speak speaking talk "
        "talking consult consulting call calling tell telling",
    ),
    cued(
        "suicide crisis",
        r" (?:suicide|crisis) (?:prevention )?(?:lifeline|hotline|helpline|line)",
    ),
    cued(
        "struggling thoughts experiencing danger crisis feeling",
        r" if you(?:'re| are| or someone| have| or anyone)(?: \w+){0,3} (?:struggling|"
        r"having thoughts|thoughts of|experiencing|in (?:danger|crisis)|feeling)",
        needs="you you're",
    ),
    cued(
        "call text dial",
        r" (?:call|text|dial)(?: or (?:call|text))? (?:\d{3}|your local|"
        r"the (?:\w+ ){0,4}(?:hotline|lifeline|helpline))",
    ),
)

#: Reasons of fact: the thing does not exist or is not known. Branches are grouped by
#: first letter, so that most words fail at once.
IGNORANCE = cued(
    "fictional not exist doesn't doesnt don't false no unknown more inanimate natural "
    "incapable unable physically",
    r" (?:n(?:ot (?:(?:a )?(?:real|publicly|possible|factual\w*|clear|exist|coherent|"
    r"meaningful|explicitly)|aware)|o (?:information|knowledge|record|memory|access|"
    r"way)|atural phenomen\w+|(?:(?<= is n)|(?<= are n))ot capable of)|"
    r"d(?:oes ?n[o']t (?:exist|make sense|have)|"
    r"o(?:n't| not) (?:know|have (?:[\w-]+ ){0,2}(?:access|information|details|data|"
    r"knowledge|personal|the ability))|"
    r"(?:(?<= they d)|(?<= it d)|(?<= and d)|(?<= which d))o(?:es)? not (?:have|"
    r"possess) (?:the|any) (?:\w+ ){0,2}(?:abilit|capacit|capabilit|power|"
    r"consciousness|brain)\w*)|"
    r"f(?:ictional|alse (?:assumption|premise))|more (?:information|context|details)|"
    r"i(?:nanimate|(?:(?<= is i)|(?<= are i))ncapable of)|"
    r"u(?:nknown|(?:(?<= is u)|(?<= are u))nable to)|physically impossible)\b",
)
